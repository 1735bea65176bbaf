"""The funnel as a reader meets it: bars, tables and text say the same, and no row is lost."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from chatcontract.course_files import asset
from chatcontract.viewers import funnel_view

ROWS = [
    {"id": "r1", "source": "reviewed"},
    {"id": "s1", "source": "synthetic"},
    {"id": "s2", "source": "synthetic"},
    {"id": "s3", "source": "synthetic"},
    {"id": "t1", "source": "transcript <&>"},
]
OUTCOME: dict[str, list[Any]] = {
    "accepted": ["r1", "s1"],
    "rejected": [
        {"id": "s2", "reasons": ["missing_fact: photos", "missing_fact: 48 hours", "near_duplicate: s1"]},
        {"id": "s3", "reasons": ["missing_fact: photos"]},
    ],
    "review": [{"id": "t1", "reasons": ["high_risk"]}],
}


def test_text_counts_each_row_once_and_each_reason_by_source() -> None:
    lines = [line.split() for line in funnel_view(ROWS, OUTCOME, title="Lab 03").text().splitlines() if line]
    assert lines[0] == ["Lab", "03"]
    assert " ".join(lines[1]) == "5 rows: 2 accepted, 1 for review, 2 rejected."
    assert ["synthetic", "3", "1", "0", "2", "33", "%"] in lines
    assert ["all", "5", "2", "1", "2", "40", "%"] in lines
    assert ["✗", "rejected", "missing_fact", "-", "2", "-", "2"] in lines, "two missing facts are one row"
    assert ["?", "review", "high_risk", "-", "-", "1", "1"] in lines


def test_bars_and_tables_say_what_the_text_says() -> None:
    view = funnel_view(ROWS, OUTCOME)
    soup = BeautifulSoup(view.html(), "html.parser")
    by_source, by_reason = soup.select("table")
    cells = [[c.get_text() for c in row.select("td")] for row in by_source.select("tbody tr")]
    assert cells == [[str(c) if c is not None else "" for c in line] for line in view.source_rows()]
    assert len(by_reason.select("tbody tr")) == 3
    picture = ElementTree.fromstring(str(soup.select_one("svg")))
    widths = [float(rect.get("width", "0")) for rect in picture.iter() if rect.tag.endswith("rect")]
    per_row = widths[0]
    assert widths == pytest.approx([per_row * n for n in (1, 1, 2, 1)], abs=0.2), (
        "equal counts, equal lengths"
    )
    assert "synthetic: 3 rows, 1 accepted, 0 for review, 2 rejected." in picture.get("aria-label", "")
    assert "transcript <&>" in picture.get("aria-label", "")


def test_a_row_that_is_lost_or_ends_twice_is_named() -> None:
    with pytest.raises(ValueError, match="1 row ended nowhere, the first is 't1'"):
        funnel_view(ROWS, OUTCOME | {"review": []})
    with pytest.raises(ValueError, match="Row 's2' ends twice, in 'accepted' and in 'rejected'"):
        funnel_view(ROWS, OUTCOME | {"accepted": ["r1", "s1", "s2"]})
    with pytest.raises(ValueError, match="names the row 'x9', which is not among the rows"):
        funnel_view(ROWS, OUTCOME | {"accepted": ["r1", "s1", "x9"]})


def test_no_rows_and_no_reasons_are_shown_too() -> None:
    assert "0 rows: 0 accepted" in funnel_view([], {}).text()
    view = funnel_view(ROWS[:1], {"accepted": ["r1"]})
    assert "reason" not in view.text() and len(BeautifulSoup(view.html(), "html.parser").select("table")) == 1


def test_the_figures_of_the_course_fit_into_the_picture(tmp_path: Path) -> None:
    lines = asset("shopflow/candidates.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    outcome = {"accepted": [row["id"] for row in rows]}
    picture = ElementTree.fromstring(funnel_view(rows, outcome).svg())
    width = float(picture.get("viewBox", "").split()[2])
    for rect in picture.iter():
        if rect.tag.endswith("rect"):
            assert float(rect.get("x", "0")) + float(rect.get("width", "0")) <= width - 40
