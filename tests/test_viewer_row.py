"""The row inspector: a row is shown as it is, with what was found in it, however broken it is."""

from typing import Any

import pytest
from bs4 import BeautifulSoup

from chatcontract import viewers
from chatcontract.viewers import RowView, row_view

CLAUSE = "Damaged electronics must be reported within 48 hours with photos."
CHAT = [
    {"role": "system", "content": f"Use only the supplied policy evidence.\n\nEvidence: {CLAUSE}"},
    {"role": "user", "content": "My electronics arrived damaged. What should I do?"},
    {"role": "assistant", "content": "Report the damage within 48 hours and attach photos."},
]
ROW = {"id": "train-0001", "source": "reviewed", "clause": CLAUSE, "messages": CHAT}


def page_of(view: RowView) -> Any:
    return BeautifulSoup(view._repr_html_(), "html.parser")


def test_an_accepted_row_shows_its_facts_in_the_answer_and_its_evidence_apart() -> None:
    view = row_view(ROW, errors=[], found=["48 hours", "photos"], title="One row")
    soup = page_of(view)
    assert [mark.text for mark in soup.select(".q mark")] == ["48 hours", "photos"]
    assert soup.select_one(".q .e").get_text(" ", strip=True) == f"Evidence: {CLAUSE}"
    assert soup.select_one(".ok").text == "✓ accepted"
    text = view.text()
    assert text.splitlines()[:2] == ["One row", "✓ accepted. 3 turns, 2 facts found."]
    assert "Report the damage within [48 hours ✓] and attach [photos ✓]." in text
    assert "source: reviewed" in text
    assert text.count(CLAUSE) == 1, "the clause stands in the system message and needs no second place"


def test_errors_stand_at_their_turn_and_errors_of_the_row_below() -> None:
    broken = [*CHAT[:2], CHAT[1], CHAT[2], CHAT[1]]
    errors: list[Any] = [
        {"message": 2, "reason": "expected assistant, got user"},
        {"message": 5, "reason": "conversation ends before assistant answer"},
        "id is used twice",
    ]
    view = row_view(broken, errors=errors)
    soup = page_of(view)
    marked = soup.select(".q.x")
    assert [turn.find("i").text for turn in marked] == ["2", "5"]
    assert [turn.select_one(".no").text for turn in marked] == [
        "✗ expected assistant, got user",
        "✗ conversation ends before assistant answer",
    ]
    assert view.summary == "✗ rejected. 5 turns, 3 errors."
    lines = view.text().splitlines()
    assert lines[lines.index("     ✗ expected assistant, got user") - 1].startswith("  2  user:")
    assert lines[-1] == "error: id is used twice"


def test_spans_may_be_given_by_characters_and_a_claim_is_not_painted_over_by_a_fact() -> None:
    text = "Return it within 30 days with photos."
    row = [*CHAT[:2], {"role": "assistant", "content": text}]
    found = [{"start": 0, "end": len(text), "name": "everything"}]
    forbidden = [{"start": 17, "end": 24, "message": 2}]
    view = row_view(row, found=found, forbidden=forbidden, missing=["48 hours"])
    assert page_of(view).select_one(".q mark.u").text == "30 days✗"
    assert view.text().splitlines()[-3:] == [
        "found: everything",
        "missing: 48 hours",
        "forbidden: 30 days",
    ]
    assert view.verdict == "rejected"


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"messages": [{"role": "user", "content": None}]}, "user: null (no text)"),
        ({"messages": [{"role": "user", "content": "null"}]}, "user: null"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            'user: [{"type": "text"}] (no text)',
        ),
        ({"messages": [{"role": "user", "content": " \n"}]}, "user: ·↵"),
        ({"messages": [{"role": "user", "content": ""}]}, "user: ⟨empty⟩"),
        ({"messages": [{"role": "user\u200b", "content": "Hi"}]}, "user⟨U+200B⟩: Hi"),
        ({"messages": [{"role": 3, "content": "\ud800"}]}, "3: \ufffd"),
        ({"messages": [{}]}, "(no role): (no content)"),
        ({"messages": ["Hi"]}, "(no message): Hi"),
        ({"messages": None}, '(no messages): {"messages": null} (no text)'),
        ({}, "(no messages): {} (no text)"),
        (None, "(no messages): null (no text)"),
        ('{"messages": [', '(no messages): {"messages": ['),
    ],
)
def test_a_broken_row_is_shown_and_not_repaired(row: Any, shown: str) -> None:
    view = row_view(row)
    assert view.text().splitlines()[-1] == f"  0  {shown}"
    view.html().encode()
    assert view.verdict == "", "nobody judged it"


def test_a_long_thread_is_folded_but_its_bad_turn_is_not() -> None:
    turns = [{"role": "user" if at % 2 == 0 else "assistant", "content": f"turn {at}"} for at in range(1201)]
    view = row_view(turns, errors=[{"message": 600, "reason": "content is empty"}])
    soup = page_of(view)
    for folded in soup.select("details"):
        folded.extract()
    assert "turn 600" in soup.text and "turn 0" in soup.text and "turn 1200" in soup.text
    assert "turn 300" not in soup.text
    assert len(view.html()) < 60_000
    assert "turn 300" in view.text() and "turn 300" not in repr(view)


def test_nothing_a_row_says_becomes_markup() -> None:
    evil = "<script>alert(1)</script>"
    messages = [{"role": evil, "content": evil}, {"role": "user", "content": [evil]}]
    view = row_view({"id": evil, "messages": messages}, errors=[evil], missing=[evil], title=evil)
    assert page_of(view).find("script") is None
    assert view.html().count("&lt;script&gt;") == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"verdict": "maybe"}, "There is no verdict 'maybe'"),
        ({"errors": [{"message": 9, "reason": "r"}]}, "errors: there is no message 9"),
        ({"found": [{"start": 40, "end": 80}]}, "found: characters 40 to 80 are not in message 2"),
        ({"forbidden": [{"start": 0, "end": 1, "message": "2"}]}, "forbidden: there is no message '2'"),
    ],
)
def test_a_mark_outside_the_row_is_refused_in_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        row_view(ROW, **options)


def test_a_row_can_wait_for_a_person_and_is_a_widget_too() -> None:
    view = row_view(ROW, verdict="review")
    assert page_of(view).select_one(".rv").text == "? needs review"
    assert view.widget().value == view.html()
    assert viewers.row_view is row_view
