"""Whatever was done to a notebook's cells, the answers are found, or a person is asked."""

import copy
import itertools
import json
import random
import time
from collections.abc import Callable
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solved_copies import LABS, blank_copy, cell_of, handed_in, solved_copy

from autograder.grading.model import Prepared, Status, Submission
from autograder.grading.official import official
from autograder.grading.repair import prepare
from autograder.labs import ROOT, Lab

LAB = LABS["02_roles"]
START = LABS["00_start_here"]
STUB, VISIBLE, HIDDEN = "role-errors-stub", "role-errors-visible", "role-errors-hidden"
FEW = settings(
    max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def sources(prepared: Prepared) -> list[str]:
    return [cell["source"] for cell in prepared.notebook["cells"]]


def source_of(prepared: Prepared, grade_id: str) -> str:
    return str(cell_of(prepared.notebook, grade_id)["source"])


def answers(prepared: Prepared) -> dict[str, str]:
    return {
        cell["metadata"]["nbgrader"]["grade_id"]: cell["source"]
        for cell in prepared.notebook["cells"]
        if cell["metadata"].get("nbgrader", {}).get("solution")
    }


def position(notebook: dict[str, Any], grade_id: str) -> int:
    return int(notebook["cells"].index(cell_of(notebook, grade_id)))


def own(source: str, kind: str = "code", **more: Any) -> dict[str, Any]:
    outputs: dict[str, Any] = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source, **outputs, **more}


def changed(change: Callable[[dict[str, Any]], Any], lab: str = LAB.name) -> Prepared:
    notebook = solved_copy(LABS[lab])
    change(notebook)
    return prepare(handed_in(LABS[lab], notebook), LABS[lab])


CLEAN = prepare(handed_in(LAB, solved_copy(LAB)), LAB)
SOLUTION = source_of(CLEAN, STUB)
RELEASED = cell_of(blank_copy(LAB), STUB)["source"]


def said(sentences: tuple[str, ...]) -> str:
    return " ".join(sentences)


@pytest.mark.parametrize("lab", LABS)
def test_the_official_notebook_is_the_released_one(lab):
    released = nbformat.read(ROOT / "notebooks" / lab / f"{lab}.ipynb", as_version=4)
    here = official(LABS[lab], ROOT)
    assert [cell.data for cell in here.cells] == json.loads(json.dumps(released.cells))
    assert here.metadata == released.metadata


@pytest.mark.parametrize("lab", LABS)
def test_a_clean_copy_is_left_as_it_is(lab):
    notebook = solved_copy(LABS[lab])
    prepared = prepare(handed_in(LABS[lab], notebook), LABS[lab])
    assert (prepared.status, prepared.repairs, prepared.notes) == (Status.GRADED, (), ())
    assert sources(prepared) == [cell["source"] for cell in notebook["cells"]]
    assert not prepared.blank and not prepared.lost
    nbformat.validate(nbformat.from_dict(prepared.notebook))


@pytest.mark.parametrize("lab", LABS)
def test_a_blank_copy_is_blank_without_alarm(lab):
    prepared = prepare(handed_in(LABS[lab], blank_copy(LABS[lab])), LABS[lab])
    assert (prepared.status, prepared.repairs, prepared.notes) == (Status.GRADED, (), ())
    assert prepared.blank == {cell.grade_id for cell in official(LABS[lab], ROOT).answers}


def test_a_stub_with_another_comment_or_without_its_docstring_is_blank():
    notebook = blank_copy(LAB)
    cell_of(notebook, STUB)["source"] = "# I gave up here\n" + RELEASED.replace("    ", "  ")
    prepared = prepare(handed_in(LAB, notebook), LAB)
    assert STUB in prepared.blank and prepared.status is Status.GRADED
    cell_of(notebook, STUB)["source"] = ""
    assert STUB in prepare(handed_in(LAB, notebook), LAB).blank
    cell_of(notebook, STUB)["source"] = RELEASED.replace("raise NotImpl", "x = 1\n    raise NotImpl")
    assert STUB not in prepare(handed_in(LAB, notebook), LAB).blank


def test_hidden_tests_are_nowhere_in_what_is_prepared():
    assert "BEGIN HIDDEN" in LAB.notebook.read_text("utf-8")
    assert "HIDDEN TESTS" not in CLEAN.model_dump_json() and "autograder" not in said(tuple(sources(CLEAN)))


# Rows 9 and 10: test cells edited or deleted.


def test_an_edited_test_is_replaced_and_only_noted():
    prepared = changed(lambda n: cell_of(n, VISIBLE).update(source="print('all fine')"))
    assert source_of(prepared, VISIBLE) == source_of(CLEAN, VISIBLE)
    assert prepared.status is Status.GRADED and VISIBLE in said(prepared.notes)


@pytest.mark.parametrize("gone", [VISIBLE, HIDDEN, "role-errors-card", "imports"])
def test_a_deleted_cell_comes_back_to_its_place(gone):
    def delete(notebook: dict[str, Any]) -> None:
        notebook["cells"] = [
            c
            for c in notebook["cells"]
            if gone not in (c["id"], c["metadata"].get("nbgrader", {}).get("grade_id"))
        ]

    prepared = changed(delete)
    assert sources(prepared) == sources(CLEAN)
    assert (gone in said(prepared.repairs)) == (gone in (VISIBLE, HIDDEN))


# Row 11: cells duplicated, split, pasted.


def test_of_two_answers_the_last_that_is_no_stub_counts():
    def twice(notebook: dict[str, Any]) -> None:
        at = position(notebook, STUB)
        for source in ("def role_errors(roles):\n    return ['new']", RELEASED):
            copied = copy.deepcopy(notebook["cells"][at])
            copied.update(source=source, id=f"copy-{len(source)}")
            notebook["cells"].insert(at + 1 if source != RELEASED else at + 2, copied)

    prepared = changed(twice)
    assert "'new'" in source_of(prepared, STUB)
    assert said(tuple(sources(prepared))).count("def role_errors") == 1
    assert prepared.status is Status.GRADED_WITH_REPAIRS
    assert "more than once" in said(prepared.repairs) and "role_errors" in said(prepared.repairs)


def test_a_duplicated_test_is_there_once():
    def twice(notebook: dict[str, Any]) -> None:
        for cell in (cell_of(notebook, VISIBLE), cell_of(notebook, HIDDEN)):
            notebook["cells"].insert(notebook["cells"].index(cell), copy.deepcopy(cell))

    prepared = changed(twice)
    assert sources(prepared) == sources(CLEAN)
    assert VISIBLE in said(prepared.repairs)
    ids = [cell["id"] for cell in prepared.notebook["cells"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("with_metadata", [True, False])
@pytest.mark.parametrize("line", range(1, 10))
def test_an_answer_split_in_two_is_whole_again(line, with_metadata):
    lines = SOLUTION.splitlines()
    assert len(lines) > 10

    def split(notebook: dict[str, Any]) -> None:
        at = position(notebook, STUB)
        second = copy.deepcopy(notebook["cells"][at]) if with_metadata else own("")
        second.update(source="\n".join(lines[line:]), id="second-half")
        notebook["cells"][at]["source"] = "\n".join(lines[:line])
        notebook["cells"].insert(at + 1, second)

    prepared = changed(split)
    assert source_of(prepared, STUB) == SOLUTION
    assert "joined" in said(prepared.repairs)


def test_a_helper_split_off_an_answer_still_runs_before_it():
    def split(notebook: dict[str, Any]) -> None:
        at = position(notebook, STUB)
        helper = copy.deepcopy(notebook["cells"][at])
        helper.update(source="def help_me():\n    return 1", id="helper")
        notebook["cells"].insert(at, helper)

    prepared = changed(split)
    assert source_of(prepared, STUB) == SOLUTION
    order = sources(prepared)
    assert order.index("def help_me():\n    return 1") == order.index(SOLUTION) - 1


def test_an_answer_in_a_cell_of_ones_own_counts():
    def elsewhere(notebook: dict[str, Any]) -> None:
        cell_of(notebook, STUB)["source"] = RELEASED
        notebook["cells"].append(
            own("import functools\nLIMIT = 3\n\ndef helper(x):\n    return x\n\nprint(LIMIT)")
        )
        notebook["cells"].append(own(f"{SOLUTION}\n\nprint(role_errors(['user']))"))

    prepared = changed(elsewhere)
    assert source_of(prepared, STUB).strip() == SOLUTION.strip()
    assert prepared.status is Status.GRADED_WITH_REPAIRS and STUB not in prepared.blank
    assert "stood in another cell" in said(prepared.repairs)
    assert sources(prepared)[-1].endswith("print(role_errors(['user']))")


def test_an_answer_elsewhere_brings_what_it_calls():
    def elsewhere(notebook: dict[str, Any]) -> None:
        cell_of(notebook, STUB)["source"] = RELEASED
        notebook["cells"].append(own("from collections import Counter\nprint(1)\nLIMIT = 3"))
        notebook["cells"].append(own("def role_errors(roles):\n    return [LIMIT, Counter(roles)]"))

    source = source_of(changed(elsewhere), STUB)
    space: dict[str, Any] = {}
    exec(source, space)
    assert space["role_errors"](["a"]) == [3, {"a": 1}] and "print" not in source


@pytest.mark.parametrize("place", [VISIBLE, "conversation-errors-stub"])
def test_an_answer_above_a_test_or_in_the_next_answer_counts(place):
    def elsewhere(notebook: dict[str, Any]) -> None:
        cell_of(notebook, STUB)["source"] = RELEASED
        cell = cell_of(notebook, place)
        cell["source"] = f"{SOLUTION}\n\n{cell['source']}"

    prepared = changed(elsewhere)
    assert source_of(prepared, STUB).strip() == SOLUTION.strip()
    assert source_of(prepared, VISIBLE) == source_of(CLEAN, VISIBLE)
    assert STUB not in prepared.blank


@pytest.mark.parametrize("place", [VISIBLE, "parse-row"])
def test_a_helper_in_a_cell_of_the_instructor_comes_along(place):
    def hide(notebook: dict[str, Any]) -> None:
        cell = cell_of(notebook, place)
        cell["source"] = f"import re\nX = re.compile('x')\ndef helper(text):\n    return X\n{cell['source']}"
        cell_of(notebook, STUB)["source"] = "def role_errors(roles):\n    return helper(roles)"

    prepared = changed(hide)
    source = source_of(prepared, STUB)
    assert source.startswith("import re") and source.endswith("return helper(roles)")
    assert source_of(prepared, place) == source_of(CLEAN, place)
    assert "role_errors" in said(prepared.repairs)


def test_a_text_of_the_lab_turned_into_code_is_the_students():
    def turn(notebook: dict[str, Any]) -> None:
        by_id = {cell["id"]: cell for cell in notebook["cells"]}
        by_id["hook"].update(cell_type="code", source="mine = 1")

    assert sources(changed(turn)).count("mine = 1") == 1


def test_all_answers_in_one_cell_count():
    def together(notebook: dict[str, Any]) -> None:
        whole = "\n\n".join(cell_of(CLEAN.notebook, i)["source"] for i in answers(CLEAN))
        released = blank_copy(LAB)
        for grade_id in answers(CLEAN):
            cell_of(notebook, grade_id)["source"] = cell_of(released, grade_id)["source"]
        cell_of(notebook, "repair-stub")["source"] = whole

    prepared = changed(together)
    assert not prepared.blank and not prepared.lost
    assert source_of(prepared, STUB).strip() == SOLUTION.strip()


def test_a_later_scratch_version_does_not_replace_the_answer():
    prepared = changed(lambda n: n["cells"].append(own("def role_errors(roles):\n    return 'scratch'")))
    assert source_of(prepared, STUB) == SOLUTION and prepared.status is Status.GRADED


# Row 12: types.


@pytest.mark.parametrize("kind", ["raw", "markdown"])
@pytest.mark.parametrize("grade_id", [STUB, VISIBLE, HIDDEN, "parse-row"])
def test_a_changed_type_is_restored(grade_id, kind):
    prepared = changed(lambda n: cell_of(n, grade_id).update(cell_type=kind))
    assert prepared.notebook == CLEAN.notebook
    assert prepared.status is Status.GRADED_WITH_REPAIRS and "another type" in said(prepared.repairs)


@pytest.mark.parametrize("kind", ["raw", "code"])
def test_a_written_answer_of_another_type_stays_written(kind):
    change = lambda n: cell_of(n, "base-why").update(cell_type=kind, source="Because.")  # noqa: E731
    prepared = changed(change, START.name)
    cell = cell_of(prepared.notebook, "base-why")
    assert (cell["cell_type"], cell["source"]) == ("markdown", "Because.")


# Rows 13 and 15: order and metadata.


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("seed", range(2))
def test_reordered_cells_prepare_to_the_clean_notebook(lab, seed):
    clean = prepare(handed_in(LABS[lab], solved_copy(LABS[lab])), LABS[lab])
    prepared = changed(lambda n: random.Random(seed).shuffle(n["cells"]), lab)
    assert prepared.notebook == clean.notebook
    assert "another order" in said(prepared.repairs) and not prepared.lost


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize(("ids", "shuffle"), list(itertools.product([True, False], repeat=2)))
def test_a_copy_without_metadata_prepares_to_the_clean_notebook(lab, ids, shuffle):
    def strip(notebook: dict[str, Any]) -> None:
        for cell in notebook["cells"]:
            cell["metadata"] = {}
            if not ids:
                del cell["id"]
        if shuffle:
            random.Random(3).shuffle(notebook["cells"])

    clean = prepare(handed_in(LABS[lab], solved_copy(LABS[lab])), LABS[lab])
    prepared = changed(strip, lab)
    assert prepared.notebook == clean.notebook
    assert prepared.status is Status.GRADED_WITH_REPAIRS and "settings were missing" in said(prepared.repairs)


def test_an_answer_that_is_nowhere_goes_to_a_person():
    def delete(notebook: dict[str, Any]) -> None:
        notebook["cells"].remove(cell_of(notebook, STUB))

    prepared = changed(delete)
    assert prepared.status is Status.NEEDS_HUMAN and prepared.lost == {STUB}
    assert "role_errors" in prepared.reason and "hand that in" in prepared.reason
    assert source_of(prepared, STUB) == RELEASED


def test_another_function_name_in_the_answer_cell_is_still_the_answer():
    change = lambda n: cell_of(n, STUB).update(source="def roleErrors(roles):\n    return []")  # noqa: E731
    prepared = changed(change)
    assert "roleErrors" in source_of(prepared, STUB)
    assert prepared.status is Status.GRADED and not prepared.blank


def test_a_foreign_notebook_goes_to_a_person():
    prepared = prepare(handed_in(LAB, {"cells": [own("x = 1")], "nbformat": 4, "metadata": {}}), LAB)
    assert prepared.status is Status.NEEDS_HUMAN and "02_roles" in prepared.reason


def test_an_answer_with_a_syntax_error_and_no_metadata_is_found_by_its_name():
    def strip(notebook: dict[str, Any]) -> None:
        cell_of(notebook, STUB)["source"] = "def role_errors(roles:\n    return ["
        for cell in notebook["cells"]:
            cell["metadata"] = {}
            del cell["id"]

    prepared = changed(strip)
    assert source_of(prepared, STUB) == "def role_errors(roles:\n    return ["
    assert not prepared.lost


def test_a_written_answer_without_metadata_is_found_by_its_place():
    def strip(notebook: dict[str, Any]) -> None:
        at = position(notebook, "base-why")
        notebook["cells"][at]["source"] = "It never saw a cue."
        notebook["cells"].insert(at + 1, own("And no end.", "markdown"))
        for cell in notebook["cells"]:
            cell["metadata"] = {}
            cell.pop("id", None)

    prepared = changed(strip, START.name)
    assert source_of(prepared, "base-why") == "It never saw a cue.\n\nAnd no end."


# Rows 14, 16 and 17: settings, schema, kernel.


def test_tampered_settings_change_nothing():
    def tamper(notebook: dict[str, Any]) -> None:
        for cell in notebook["cells"]:
            if mine := cell["metadata"].get("nbgrader"):
                mine.update(points=100, grade=True, solution=True, locked=False, checksum=7, extra=["x"])
            cell["metadata"]["tags"] = ["skip-execution", "raises-exception", "experiment"]

    prepared = changed(tamper)
    assert prepared.notebook == CLEAN.notebook
    assert "Settings of nbgrader were changed" in said(prepared.notes)


def test_swapped_grade_ids_do_not_swap_answers():
    def swap(notebook: dict[str, Any]) -> None:
        one, other = cell_of(notebook, STUB), cell_of(notebook, "conversation-errors-stub")
        one["metadata"], other["metadata"] = other["metadata"], one["metadata"]
        one["id"], other["id"] = other["id"], one["id"]

    found = answers(changed(swap))
    assert "def role_errors" in found[STUB] and "def conversation_errors" in found["conversation-errors-stub"]


def test_an_answer_marked_as_a_test_is_not_lost():
    def mark(notebook: dict[str, Any]) -> None:
        cell_of(notebook, STUB)["metadata"]["nbgrader"]["grade_id"] = VISIBLE

    prepared = changed(mark)
    assert prepared.notebook == CLEAN.notebook


@pytest.mark.parametrize("version", [0, 1, 2, 4, 99, None, "three"])
def test_any_schema_version_is_put_right(version):
    def age(notebook: dict[str, Any]) -> None:
        for cell in notebook["cells"]:
            if mine := cell["metadata"].get("nbgrader"):
                mine["schema_version"] = version

    prepared = changed(age)
    assert prepared.notebook == CLEAN.notebook
    assert "another version of nbgrader" in said(prepared.repairs)


@pytest.mark.parametrize(
    "kernel", [None, {}, {"name": "ir", "language": "R", "display_name": "R"}, {"name": "x"}]
)
def test_the_kernel_is_the_course_s(kernel):
    prepared = changed(lambda n: n["metadata"].update(kernelspec=kernel))
    assert prepared.notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert ("kernel for R" in said(prepared.repairs)) == bool(kernel and "language" in kernel)


# What is the student's stays the student's.


def test_own_cells_stay_beside_the_cell_they_followed():
    def add(notebook: dict[str, Any]) -> None:
        notebook["cells"].insert(position(notebook, STUB) + 1, own("mine = 1", id="imports"))
        notebook["cells"].insert(0, own("My notes", "markdown"))

    prepared = changed(add)
    order = sources(prepared)
    assert order[0] == "My notes" and order.index("mine = 1") == order.index(SOLUTION) + 1
    ids = [cell["id"] for cell in prepared.notebook["cells"]]
    assert len(ids) == len(set(ids))
    nbformat.validate(nbformat.from_dict(prepared.notebook))


def test_open_code_keeps_an_edit_and_loses_none_when_emptied():
    def edit(notebook: dict[str, Any]) -> None:
        by_id = {cell["id"]: cell for cell in notebook["cells"]}
        by_id["role-errors-playground"]["source"] = "role_errors(['tool'])"
        by_id["imports"]["source"] = ""
        by_id["hook"]["source"] = "rewritten"

    prepared = changed(edit)
    by_id = {cell["id"]: cell for cell in prepared.notebook["cells"]}
    official_cells = {cell["id"]: cell for cell in CLEAN.notebook["cells"]}
    assert by_id["role-errors-playground"]["source"] == "role_errors(['tool'])"
    assert by_id["imports"] == official_cells["imports"] and by_id["hook"] == official_cells["hook"]


def test_two_parts_of_a_written_answer_both_count():
    def add(notebook: dict[str, Any]) -> None:
        at = position(notebook, "base-why")
        more = copy.deepcopy(notebook["cells"][at])
        notebook["cells"][at]["source"] = "First."
        more.update(source="Second.", id="more")
        notebook["cells"].insert(at + 1, more)

    assert source_of(changed(add, START.name), "base-why") == "First.\n\nSecond."


def test_a_written_answer_under_its_untouched_cell_counts():
    def add(notebook: dict[str, Any]) -> None:
        notebook["cells"][position(notebook, "base-why")]["source"] = "Write your answer here."
        notebook["cells"].insert(position(notebook, "base-why") + 1, own("It never saw a cue.", "markdown"))

    prepared = changed(add, START.name)
    assert source_of(prepared, "base-why") == "It never saw a cue." and not prepared.blank
    assert sources(prepared).count("It never saw a cue.") == 1


def test_magics_and_fences_do_not_hide_an_answer():
    plain = "def role_errors(roles):\n    return ['mine']"
    for source in (
        f"%%time\n{plain}",
        f"%matplotlib inline\nfiles = !ls\nrole_errors?\n{plain}\n!pip list",
        f"Here it is:\n\n```python\n{plain}\n```",
    ):

        def elsewhere(notebook: dict[str, Any], source: str = source) -> None:
            cell_of(notebook, STUB)["source"] = RELEASED
            notebook["cells"].append(own(source, "markdown" if "```" in source else "code"))

        assert source_of(changed(elsewhere), STUB) == plain


HARD = (
    *("%x\n" * 3000, "-" * 40_000 + "1", "a" + ".b" * 20_000, "lambda:" * 7_000 + "1", "(" * 40_000),
    *("x\x0c = 1\n?", "```\n" * 20_000, "a=" * 20_000 + "!", "\\\n" * 20_000, "def role_errors" * 10_000),
)


@pytest.mark.parametrize("source", HARD, ids=range(len(HARD)))
def test_code_that_is_hard_to_parse_costs_little(source):
    def add(notebook: dict[str, Any]) -> None:
        cell_of(notebook, STUB)["source"] = f"{RELEASED}\n{source}"
        notebook["cells"].append(own(f"def role_errors(roles):\n    return 1\n{source}"))

    notebook = solved_copy(LAB)
    add(notebook)
    submission = handed_in(LAB, notebook)
    start = time.process_time()
    assert prepare(submission, LAB).status in (Status.GRADED, Status.GRADED_WITH_REPAIRS)
    assert time.process_time() - start < 3


def test_a_submission_without_a_notebook_keeps_its_status():
    missing = Submission(student="joe", lab=LAB.name, status=Status.MISSING, reason="Nothing there.")
    prepared = prepare(missing, LAB)
    assert (prepared.status, prepared.reason) == (Status.MISSING, "Nothing there.")
    assert prepared.lost == set(answers(CLEAN))


def test_preparing_a_lab_takes_less_than_50_ms():
    def seconds(lab: Lab, attempt: int) -> float:
        notebook = solved_copy(lab)
        for cell in notebook["cells"]:
            cell["source"] += f"\n# attempt {attempt}"
        submission = handed_in(lab, notebook)
        start = time.process_time()
        prepare(submission, lab)
        return time.process_time() - start

    # The first reads the lab; of the others one may meet a garbage collection.
    best = {lab.name: min([seconds(lab, attempt) for attempt in range(3)][1:]) for lab in LABS.values()}
    assert max(best.values()) < 0.05, best


# Anything at all.


@st.composite
def mangled(draw: st.DrawFn) -> dict[str, Any]:
    notebook = solved_copy(draw(st.sampled_from([LAB, START])))
    cells = notebook["cells"]
    places = st.integers(0, 10**6)
    for _ in range(draw(st.integers(0, 25))):
        if not cells:
            break
        at, to = draw(places) % len(cells), draw(places) % len(cells)
        cell = cells[at]
        match draw(st.integers(0, 11)):
            case 0:
                del cells[at]
            case 1:
                cells.insert(to, copy.deepcopy(cell))
            case 2:
                cell["cell_type"] = draw(st.sampled_from(["code", "markdown", "raw", "heading", 7]))
            case 3:
                cells.insert(to, cells.pop(at))
            case 4:
                cell["metadata"] = draw(st.sampled_from([{}, [], None, {"nbgrader": []}, {"nbgrader": {}}]))
            case 5:
                cell.pop("id", None)
            case 6:
                cell["source"] = draw(st.one_of(st.text(max_size=40), st.none(), st.just(["a", 3])))
            case 7:
                cell["source"] = f"{cell.get('source')}\n{cells[to].get('source')}"
            case 8:
                cell["source"] = str(cell.get("source"))[: draw(st.integers(0, 400))]
            case 9:
                cell["metadata"], cells[to]["metadata"] = cells[to].get("metadata"), cell.get("metadata")
            case 10:
                cell["id"] = cells[to].get("id")
            case 11:
                cells[at] = draw(st.sampled_from([None, "cell", 3, [], {}, {"source": "x = 1"}]))
                if not isinstance(cells[at], dict):
                    cells[at] = {"source": cells[at], "metadata": {}}
    return notebook


@FEW
@given(mangled())
def test_no_mangled_notebook_raises(notebook):
    raw = Submission(student="s", lab=LAB.name, notebook=notebook)
    prepared = prepare(raw, LAB)
    nbformat.validate(nbformat.from_dict(prepared.notebook))
    graded = [
        cell["metadata"]["nbgrader"]["grade_id"]
        for cell in prepared.notebook["cells"]
        if cell["metadata"].get("nbgrader")
    ]
    assert graded == [cell.grade_id for cell in official(LAB, ROOT).cells if cell.grade_id]
    assert source_of(prepared, VISIBLE) == source_of(CLEAN, VISIBLE)
    assert not prepared.blank & prepared.lost
    assert (prepared.status is Status.NEEDS_HUMAN) == bool(prepared.lost)
    assert prepare(raw, LAB) == prepared


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
any_cell = st.one_of(
    json_like,
    st.fixed_dictionaries(
        {},
        optional={
            "cell_type": st.one_of(st.sampled_from(["code", "markdown"]), json_like),
            "source": st.one_of(st.text(max_size=30), json_like),
            "metadata": st.one_of(
                json_like,
                st.fixed_dictionaries(
                    {"nbgrader": st.fixed_dictionaries({"grade_id": st.sampled_from([STUB, VISIBLE, ""])})}
                ),
            ),
            "id": json_like,
            "attachments": json_like,
        },
    ),
)


@FEW
@given(st.fixed_dictionaries({"cells": st.lists(any_cell, max_size=6), "metadata": json_like}))
def test_no_json_raises(notebook):
    prepared = prepare(Submission.model_construct(student="s", lab=LAB.name, notebook=notebook), LAB)
    nbformat.validate(nbformat.from_dict(prepared.notebook))
    json.dumps(prepared.notebook, allow_nan=False).encode()
