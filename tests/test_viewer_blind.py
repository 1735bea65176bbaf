"""The blind comparison: no name shows before the reader has chosen, and votes are counted right."""

from collections.abc import Mapping
from typing import Any

import pytest
from bs4 import BeautifulSoup

from chatcontract.viewers import BlindView, compare_answers


def records(words: str, grounded: list[bool]) -> list[Mapping[str, Any]]:
    return [
        {
            "question": f"Question {index}?",
            "evidence": f"Clause {index}: 48 hours <b>.",
            "text": f"{words} answer {index}",
            "grounded": good,
            "stopped": good,
            "found": ["answer"] if good else [],
            "missing": [] if good else ["48 hours"],
        }
        for index, good in enumerate(grounded)
    ]


def blind(cases: int = 20, seed: int = 0) -> BlindView:
    before = records("Early", [False] * cases)
    after = records("Late", [index != 3 for index in range(cases)])
    return compare_answers(title="Twenty", before=before, after=after).blind(seed)


def letters_of(view: BlindView, words: str) -> str:
    """The vote of a reader who always prefers the answers that begin with these words."""
    pairs = (dict(view.lettered(index)) for index in range(len(view.view.cases)))
    return "".join(next(letter for letter, said in pair.items() if said.startswith(words)) for pair in pairs)


def test_no_name_verdict_or_mark_shows_before_the_reveal() -> None:
    view = blind()
    soup = BeautifulSoup(view._repr_html_(), "html.parser")
    for words in (soup.get_text(" "), view.text(), view.case_page(7)):
        for name in ("before", "after", "grounded", "stopped", "missing", "✓", "✗"):
            assert name not in words.replace("afterwards", "")
    assert not soup.select("mark, .ok, .no")
    assert [head.get_text(strip=True) for head in soup.select(".a")[0].select("th")] == ["A", "B"]
    assert len(soup.select(".a")) == 20 and len(soup.select("details .a")) == 15
    assert "<b>.</b>" not in str(soup), "what a customer writes is text"


def test_the_order_changes_from_case_to_case_and_comes_back_with_the_seed() -> None:
    late = letters_of(blind(), "Late")
    assert 5 < late.count("A") < 15
    assert letters_of(blind(), "Late") == late
    assert letters_of(blind(seed=1), "Late") != late


def test_votes_are_counted_for_the_model_behind_the_letter() -> None:
    view = blind()
    votes = letters_of(view, "Late")
    shown = view.reveal(votes)
    assert shown.summary.startswith(
        "You voted on 20 of 20 cases: preferred before 0, after 20, no difference 0. "
        "Where the rules call one answer grounded and not the other, you agree in 19 of 19."
    )
    assert "before: 0 grounded" in shown.summary and "after: 19 grounded" in shown.summary
    mixed = view.reveal("= ." + letters_of(view, "Early")[2:])
    assert "19 of 20 cases: preferred before 18, after 0, no difference 1." in mixed.summary
    assert "agree in 0 of 17" in mixed.summary
    first = shown.cases[0].answers
    assert [name for name, _ in first] == [
        f"before (was {'BA'['AB'.index(votes[0])]})",
        f"after (was {votes[0]}, your choice)",
    ]


@pytest.mark.parametrize(
    ("votes", "says"), [("AB", "2 votes for 20 cases"), ("A" * 19 + "C", "case 20 is 'C': use A, B")]
)
def test_a_vote_that_cannot_be_read_is_refused_in_one_sentence(votes: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        blind().reveal(votes)


def test_without_a_second_answer_there_is_nothing_to_choose() -> None:
    with pytest.raises(ValueError, match="nothing to choose between"):
        compare_answers(only=records("Early", [True])).blind()


def test_the_widget_collects_votes_and_reveals_once() -> None:
    pytest.importorskip("ipywidgets")
    view = blind(cases=3)
    controls, choice, pane, reveal = view.widget().children
    back, onward, said = controls.children
    assert "You have not voted yet." in view.reveal().summary
    votes = letters_of(view, "Late")
    choice.value = votes[0]
    onward.click()
    assert choice.value is None and back.disabled is False
    onward.click()
    choice.value = "="
    assert said.value == "Case 3 of 3, 2 voted"
    back.click()
    back.click()
    assert choice.value == votes[0], "an earlier vote is still there"
    assert "after" not in pane.value
    reveal.click()
    assert choice.disabled and "preferred before 0, after 1, no difference 1" in pane.value
    assert view.votes == {0: votes[0], 2: "="}
