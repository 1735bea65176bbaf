"""The drift viewer on deployments of nano that differ from training in one thing each."""

import copy
from typing import Any

import pytest
from bs4 import BeautifulSoup

from chatcontract.families import family
from chatcontract.manifest import prompt_record
from chatcontract.models import load_tokenizer
from chatcontract.viewers import DriftView, drift_view

PROBES = [
    [{"role": "user", "content": "My electronics arrived damaged."}],
    [
        {"role": "system", "content": "Evidence: <b>48 hours</b>."},
        {"role": "user", "content": "Do you ship?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "What should I do?"},
    ],
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("nano")


def served(tokenizer: Any, template: str, **changes: Any) -> dict[str, Any]:
    """The record of a server whose count agrees with its own template."""
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    record = prompt_record(other, PROBES)
    return record | {"prompt_tokens": [len(ids) for ids in record["ids"]]} | changes


@pytest.fixture(scope="module")
def view(tokenizer: Any) -> DriftView:
    right = tokenizer.chat_template
    trained = prompt_record(tokenizer, PROBES)
    broken = {
        "right": served(tokenizer, right),
        "A": served(tokenizer, right.split("{%- if add_generation_prompt")[0]),
        "B": served(tokenizer, "{{- bos_token + bos_token -}}" + right),
        "C": served(tokenizer, family("mistral_v01").serving_template),
        "silent": {},
        "cutting": served(
            tokenizer, right, prompt_tokens=[len(prompt_record(tokenizer, PROBES)["ids"][0]), 9]
        ),
    }
    return drift_view(trained, broken, tokenizer, title="Four & more")


def words(view: DriftView) -> dict[str, list[str]]:
    return {one.name: [finding.marked for finding in one.findings] for one in view.deployments}


def test_each_deployment_is_caught_by_what_differs_and_by_nothing_else(
    view: DriftView, tokenizer: Any
) -> None:
    found = words(view)
    first, second = (len(ids) for ids in prompt_record(tokenizer, PROBES)["ids"])
    assert [mark[0] for mark in found["right"]] == ["✓"] * 4
    assert found["right"][3] == f"✓ as training counts: {first}, {second}"
    assert [mark[0] for mark in found["A"]] == ["✗", "✓", "✗", "✗"]
    cue = len(tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False))
    assert found["A"][2] == f"✗ token {first - cue} of probe 1: <|im_start|> → ended"
    assert found["A"][3] == f"✗ -{cue}, -{cue}, the same for every probe"
    assert found["B"][2:] == [
        "✗ token 0 of probe 1: <|im_start|> → <|endoftext|>",
        "✗ +2, +2, the same for every probe",
    ]
    assert [mark[0] for mark in found["C"]] == ["✗", "✓", "✗", "✗"]
    assert found["silent"] == ["✗ not stated"] * 3 + ["· server not asked"]
    assert [mark[0] for mark in found["cutting"]] == ["✓", "✓", "✓", "✗"], "only the live count shows it"
    assert found["cutting"][3] == f"✗ 0, {9 - second}"
    assert view.summary == "5 of 6 deployments drifted: A, B, C, silent, cutting."


def test_a_special_token_with_another_id_is_named(tokenizer: Any) -> None:
    trained = prompt_record(tokenizer, PROBES)
    moved = trained["special"] | {"eos": 999}
    moved.pop("pad")
    view = drift_view(trained, {"one": {**trained, "special": moved}}, tokenizer)
    (one,) = view.deployments
    assert one.findings[1].marked == (
        f"✗ eos {trained['special']['eos']} → 999, pad {trained['special']['pad']} → none"
    )


def test_the_page_holds_what_the_text_holds_and_no_markup_from_a_template(view: DriftView) -> None:
    soup = BeautifulSoup(view._repr_html_(), "html.parser")
    cells = [[cell.get_text() for cell in row.select("td")] for row in soup.select("table.dr tbody tr")]
    assert cells == list(words(view).values())
    for row in cells:
        for cell in row:
            assert cell in view.text()
    assert [head.get_text() for head in soup.select("summary")] == [
        f"{name}: where it differs" for name in ("A", "B", "C")
    ]
    added = [line.get_text() for line in soup.select("details")[1].select("ins")]
    assert len(added) == 1 and added[0].startswith("+{{- bos_token + bos_token -}}")
    assert "B: template, - training + served" in view.text()
    assert [title.get_text() for title in soup.select(".t")] == ["Four & more"]
    assert not soup.select("script") and "http" not in str(soup)


def test_ids_of_another_vocabulary_are_shown_as_ids(tokenizer: Any) -> None:
    trained = prompt_record(tokenizer, PROBES[:1])
    ids = [len(tokenizer) + 5, *trained["ids"][0][1:]]
    view = drift_view(trained, {"larger": {**trained, "ids": [ids]}}, tokenizer)
    assert f"<|im_start|> → id·{len(tokenizer) + 5}" in view.text().replace("id ", "id·")


def test_the_widget_shows_one_deployment_at_a_time(view: DriftView) -> None:
    pytest.importorskip("ipywidgets")
    buttons, pane = view.widget().children
    assert "Nothing differs." in pane.value
    buttons.value = 2
    assert "bos_token + bos_token" in pane.value and "&lt;b&gt;48" not in pane.value


@pytest.mark.parametrize(
    ("trained", "given", "says"),
    [
        ({"template": "x"}, {"one": {}}, "training record has no 'special'"),
        (None, {}, "no deployment"),
        (None, {"one": {"ids": [[1]]}}, "one has 1 ids for 2 probes"),
        (None, {"one": {"prompt_tokens": [1, 2, 3]}}, "one has 3 prompt_tokens for 2 probes"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    tokenizer: Any, trained: Any, given: Any, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        drift_view(trained or prompt_record(tokenizer, PROBES), given, tokenizer)
