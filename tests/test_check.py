"""check, hint and progress as a student meets them: what a wrong answer is told."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from autograder.labs import ROOT
from chatcontract import faults_table
from chatcontract.check import CheckFailed, check, hint, progress
from chatcontract.check.cases import UnknownExercise, exercise_named
from chatcontract.check.compare import difference, equal
from chatcontract.check.outcome import Outcome, call
from chatcontract.check.run import examine_exercise

CUE = "<|im_start|>assistant\n"


def right(messages, add_generation_prompt=False, continue_final_message=False):
    if add_generation_prompt and continue_final_message:
        raise ValueError("choose one")
    if continue_final_message and (not messages or messages[-1]["role"] != "assistant"):
        raise ValueError("only an assistant message")
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    if continue_final_message:
        text = text.removesuffix("<|im_end|>\n")
    return text + (CUE if add_generation_prompt else "")


def as_exercise(function):
    """The function under the name that the exercise gave it."""
    function.__name__ = "render_chatml"
    return function


def failure(function):
    """What check says of a wrong answer."""
    with pytest.raises(AssertionError) as caught:
        check(as_exercise(function))
    return str(caught.value)


def report(function):
    return examine_exercise(exercise_named("render_chatml"), function)


def test_a_right_answer_passes_and_says_so(capsys):
    check(as_exercise(right))
    assert "all 9 cases passed" in capsys.readouterr().out


def test_the_mistake_is_named_with_its_consequence_and_target_and_yours_are_shown(capsys):
    def trimmed(messages, add_generation_prompt=False, continue_final_message=False):
        messages = [{**m, "content": m["content"].strip()} for m in messages]
        return right(messages, add_generation_prompt, continue_final_message)

    said = failure(trimmed)
    assert "contents are trimmed" in said and "indented code" in said
    shown = capsys.readouterr().out
    assert "The mistake: The contents are trimmed" in shown
    assert "target" in shown and "'<|im_start|>user\\n  Hi" in shown
    assert "https://github.com/huggingface/transformers/issues/35433" in shown


def test_a_second_mistake_is_not_hidden_behind_the_first():
    def two(messages, add_generation_prompt=False, continue_final_message=False):
        if not add_generation_prompt and not continue_final_message and not messages:
            return None
        messages = [{**m, "content": m["content"].strip()} for m in messages]
        return right(messages, add_generation_prompt, continue_final_message)

    assert "Among others: The contents are trimmed" in failure(two)


def test_an_unknown_mistake_gets_its_smallest_case_and_the_violated_property():
    assert "Special token" in failure(lambda messages, **o: right(messages, **o) + "<|im_end|>" * 3)
    said = failure(lambda messages, **o: right(messages, **o).replace("\nM", " M"))
    assert "Smallest failing case" in said and "Character" in said


def test_an_unwritten_answer_is_not_called_a_mistake():
    def stub(messages, add_generation_prompt=False, continue_final_message=False):
        raise NotImplementedError()

    assert "not written yet" in failure(stub)


def test_the_students_own_exception_comes_with_their_line(capsys):
    def broken(messages, add_generation_prompt=False, continue_final_message=False):
        return messages.rendered()

    assert "AttributeError" in failure(broken)
    shown = capsys.readouterr().out
    assert "return messages.rendered()" in shown
    assert "outcome.py" not in shown


def test_a_changed_argument_is_found_although_the_result_is_right():
    def greedy(messages, add_generation_prompt=False, continue_final_message=False):
        text = right(messages, add_generation_prompt, continue_final_message)
        messages.clear()
        return text

    assert "changed its argument 'messages'" in failure(greedy)


def test_a_result_that_depends_on_the_call_before_is_found():
    calls = []

    def unstable(messages, add_generation_prompt=False, continue_final_message=False):
        calls.append(1)
        text = right(messages, add_generation_prompt, continue_final_message)
        return text + " " * (len(calls) % 2)

    assert "Two calls with the same arguments" in failure(unstable)


def test_a_loop_without_end_costs_one_time_limit_and_not_one_per_case():
    def endless(messages, add_generation_prompt=False, continue_final_message=False):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue

    began = time.monotonic()
    texts = [r.wrong for r in report(endless).results]
    assert time.monotonic() - began < 2 * exercise_named("render_chatml").time_limit
    assert texts[0].startswith("No result after 5 seconds") and "Not run" in texts[-1]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ({1, 2}, "is a set"),
        (float("nan"), "not a finite number"),
        ({1: "a"}, "keys are texts"),
        ([object()], "is a object"),
    ],
)
def test_what_is_not_plain_data_is_refused_in_words(returned, words):
    assert words in call(lambda: returned, {}).trouble


def test_tuples_count_as_lists_but_truth_values_not_as_numbers():
    assert equal([1, 2], call(lambda: (1, 2.0), {}).value)
    assert not equal(1, True) and not equal([True], [1])
    assert equal(0.30000001, 0.3, 1e-6) and not equal(0.31, 0.3, 1e-6)


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        ([1, 2, 3], [1, 2], "Wrong length: expected 3 entries, got 2"),
        ([1, 2, 3], [3, 2, 1], "wrong order"),
        ([[0, 1]], [[False, True]], "expected the number 0, got False; use 1 and 0"),
        ([1, 2, 3], [1, 9, 3], "Position 1: expected 2, got 9 (1 of 3 positions differ)"),
        ({"a": 1}, {"b": 1}, "the key 'a' is missing and the key 'b' is not expected"),
        ({"a": {"b": 1.5}}, {"a": {"b": "1.5"}}, "Wrong type at ['a']['b']"),
        ("abc", None, "is a return missing?"),
        ("a<s>", "a<s><s>", "<s> occurs 2 times, expected 1"),
        ("abcdef", "abc", "ends too early"),
    ],
)
def test_the_violated_property_is_said(expected, got, words):
    assert words in difference(Outcome(expected), Outcome(got))


def test_wrong_argument_names_are_one_sentence_and_not_nine_failures():
    with pytest.raises(CheckFailed, match="Keep the names"):
        check(as_exercise(lambda chat, cue=False: ""))


def test_a_function_of_another_name_gets_a_suggestion():
    def render_chatlm():
        pass

    with pytest.raises(UnknownExercise, match="did you mean render_chatml"):
        check(render_chatlm)
    with pytest.raises(TypeError, match="needs the function itself"):
        check("render_chatml")  # type: ignore[arg-type]


def test_hints_come_one_at_a_time(capsys):
    for step in ("Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3", "Hint 3 of 3"):
        hint("render_mistral")
        assert step in capsys.readouterr().out


def test_progress_counts_what_passes_in_this_kernel(capsys):
    check(as_exercise(right))
    capsys.readouterr()
    progress()
    shown = capsys.readouterr().out
    assert "1 of 5 visible points so far; 11 more" in shown and "not checked" in shown


def test_the_symptom_table_has_a_row_for_every_fault_of_the_lab():
    data = json.loads((ROOT / "assets" / "checks" / "01_rendering.json").read_text(encoding="utf-8"))
    table = faults_table("01_rendering")
    assert len(table.rows) == len(data["faults"]) >= 12
    assert all(all(cell for cell in row) for row in table.rows)
    assert "<table" in table._repr_html_()
    with pytest.raises(LookupError, match="There is no lab"):
        faults_table("99_none")


def test_checking_needs_neither_nbgrader_nor_torch_nor_the_graders_package():
    code = (
        "import sys; from chatcontract.check import check\n"
        "def find_control_tokens(messages, markers): return []\n"
        "try: check(find_control_tokens)\nexcept AssertionError: pass\n"
        "heavy = {'nbgrader', 'torch', 'transformers', 'autograder', 'IPython'} & set(sys.modules)\n"
        "print(sorted(heavy) if heavy - {'IPython'} else 'light')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "light"
    assert "of 7 cases failed" in done.stdout


def test_an_integer_beyond_all_floats_is_no_float():
    assert not equal(0.5, 10**400, tolerance=1e-6) and equal(10**400, 10**400, tolerance=1e-6)


def test_the_two_sides_part_where_the_values_do_and_not_where_keys_stand_in_another_order():
    case = replace(
        exercise_named("render_chatml").cases[0],
        expected=Outcome({"rows": [1.0] * 40, "disputed": ["a3"]}),
        arguments={"messages": []},
        faults={},
    )
    exercise = replace(exercise_named("render_chatml"), cases=(case,), faults={})
    report = examine_exercise(exercise, lambda messages: {"disputed": [], "rows": [1] * 40})
    target, yours = report.text().splitlines()[-3:-1]
    assert "'disputed': ['a3']" in target and "'disputed': []" in yours
    assert target[: target.index("['a3']")].removeprefix("  target") == yours[
        : yours.index("[]")
    ].removeprefix("  yours ")


def test_a_long_call_is_written_in_lines_and_a_none_inside_is_no_missing_return():
    case = replace(
        exercise_named("render_chatml").cases[0],
        expected=Outcome({"fault": "labels_moved"}),
        arguments={"messages": [{"role": "user", "content": f"question {i}"} for i in range(20)]},
        faults={},
    )
    exercise = replace(exercise_named("render_chatml"), cases=(case,), faults={})
    text = examine_exercise(exercise, lambda messages: {"fault": None}).text()
    assert "expected 'labels_moved'" in text and "return missing" not in text
    assert "question 0" in text and "question 19" in text and "lines not shown" not in text
    assert max(map(len, text.splitlines()[4:])) < 130
