"""Answers before and after training, side by side, with what is grounded and what is not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from chatcontract.viewers.page import OWN_KEYS, count, folded, page

if TYPE_CHECKING:
    from chatcontract.viewers.blind import BlindView

_ALIKE = {
    "-": "[-\u2010\u2011\u2012\u2013\u2014]",
    "'": "['\u2018\u2019]",
    '"': '["\u201c\u201d]',
}


@dataclass(frozen=True)
class Answer:
    """One answer with its verdict.

    ``found`` and ``missing`` are the facts the question asks for, ``unsupported`` the claims that the
    evidence does not carry. ``None`` for a verdict means that nobody judged it.
    """

    text: str
    grounded: bool | None = None
    stopped: bool | None = None
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> Answer:
        """Read one answer; ``where`` names it in an error.

        ``forbidden`` and ``unsupported_numbers``, as :mod:`chatcontract.evaluate` records them, are claims
        without support too.

        Raises:
            ValueError: there is no text.
        """
        if not isinstance(data.get("text"), str):
            raise ValueError(f"{where} has no text: give {{'text': ..., 'grounded': ..., 'stopped': ...}}.")
        return cls(
            text=data["text"],
            grounded=data.get("grounded"),
            stopped=data.get("stopped"),
            found=tuple(data.get("found") or ()),
            missing=tuple(data.get("missing") or ()),
            unsupported=tuple(
                claim
                for key in ("unsupported", "forbidden", "unsupported_numbers")
                for claim in data.get(key) or ()
            ),
        )

    @property
    def verdicts(self) -> list[tuple[bool, str]]:
        """The verdicts in words, each with whether it is good."""
        said = []
        if self.grounded is not None:
            said.append((self.grounded, "✓ grounded" if self.grounded else "✗ not grounded"))
        if self.stopped is not None:
            said.append((self.stopped, "✓ stopped" if self.stopped else "✗ ran on"))
        return said


@dataclass(frozen=True)
class Case:
    """One question with its evidence and the answers to it, by name (``before``, ``after``)."""

    question: str
    evidence: str
    answers: tuple[tuple[str, Answer], ...]


@dataclass(frozen=True, repr=False)
class AnswersView:
    """Cases with their answers side by side, shown as HTML, as text or, one at a time, as a widget."""

    cases: tuple[Case, ...]
    title: str = ""
    open_cases: int = 5
    """Cases of the static page that need no click."""

    FILTERS = ("all cases", "grounded changed", "last not grounded", "last ran on")

    def chosen(self, kind: str) -> list[int]:
        """Indices of the cases that a filter of ``FILTERS`` keeps."""
        keep = {
            "all cases": lambda answers: True,
            "grounded changed": lambda answers: answers[0].grounded != answers[-1].grounded,
            "last not grounded": lambda answers: answers[-1].grounded is False,
            "last ran on": lambda answers: answers[-1].stopped is False,
        }[kind]
        answers = [[answer for _, answer in case.answers] for case in self.cases]
        return [index for index, column in enumerate(answers) if keep(column)]

    @property
    def summary(self) -> str:
        """Counts, for instance ``20 cases. before: 1 grounded, 0 stopped. after: 20 grounded, ...``"""
        names = [name for name, _ in self.cases[0].answers] if self.cases else []
        parts = [f"{count(len(self.cases), 'case')}."]
        for column, name in enumerate(names):
            answers = [case.answers[column][1] for case in self.cases]
            said = []
            for verdict in ("grounded", "stopped"):
                given = [value for answer in answers if (value := getattr(answer, verdict)) is not None]
                # an answer that nobody judged is not a failed one
                if given:
                    said.append(f"{sum(given)} {verdict}")
            if said:
                parts.append(f"{name}: {', '.join(said)}.")
        return " ".join(parts)

    def text(self, limit: int | None = None) -> str:
        """All cases as text; a fact is followed by ✓ and a claim without support by ✗, both in brackets."""
        lines = [line for line in (self.title, self.summary) if line]
        for number, case in enumerate(self.cases[:limit], start=1):
            lines += ["", f"Case {number}", f"  Question: {case.question}", f"  Evidence: {case.evidence}"]
            for name, answer in case.answers:
                verdict = ", ".join(words for _, words in answer.verdicts)
                lines.append(f"  {name}{f' ({verdict})' if verdict else ''}: {_marked_text(answer)}")
                if answer.missing:
                    lines.append(f"    missing: {'; '.join(answer.missing)}")
                if answer.unsupported:
                    lines.append(f"    unsupported: {'; '.join(answer.unsupported)}")
        if limit is not None and len(self.cases) > limit:
            lines += ["", f"... {len(self.cases) - limit} more cases; print(view.text()) shows all."]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text(limit=5)

    def case_html(self, index: int) -> str:
        """One case, without the frame."""
        case = self.cases[index]
        head = "".join(
            f'<th scope="col">{escape(name)} {_badges(answer)}</th>' for name, answer in case.answers
        )
        cells = "".join(f"<td>{_answer_html(answer)}</td>" for _, answer in case.answers)
        return (
            f'<div class="a"><p><b>{index + 1}. {escape(case.question)}</b></p>'
            f'<p class="n">Evidence: {escape(case.evidence)}</p>'
            f"<table><thead><tr>{head}</tr></thead><tbody><tr>{cells}</tr></tbody></table></div>"
        )

    @property
    def _legend(self) -> str:
        """What the marks mean, when the answers can hold any."""
        answers = [answer for case in self.cases for _, answer in case.answers]
        return _LEGEND if any(a.found or a.missing or a.unsupported for a in answers) else ""

    def case_page(self, index: int) -> str:
        """One case as a page of its own, for the widget."""
        return page(self.case_html(index) + self._legend, label=f"Case {index + 1}", css=["answers"])

    def html(self) -> str:
        """Self-contained static HTML; cases after the first few are folded."""
        title = f'<p class="t"><b>{escape(self.title)}</b></p>' if self.title else ""
        cases = [self.case_html(index) for index in range(len(self.cases))]
        shown, hidden = cases[: self.open_cases], cases[self.open_cases :]
        more = folded(count(len(hidden), "more case"), "".join(hidden)) if hidden else ""
        body = f'{title}<p class="n">{escape(self.summary)}</p>{self._legend}{"".join(shown)}{more}'
        return page(body, label=f"Answers side by side. {self.summary}", css=["answers"])

    def _repr_html_(self) -> str:
        return self.html()

    def blind(self, seed: int = 0) -> BlindView:
        """The same cases without names and verdicts, to vote on; the seed decides which answer is A.

        Raises:
            ValueError: there is no case, or only one answer each.
        """
        from chatcontract.viewers.blind import BlindView

        if not self.cases or len(self.cases[0].answers) < 2:
            raise ValueError("There is nothing to choose between: give at least one case with two answers.")
        return BlindView(self, seed)

    def widget(self) -> Any:
        """An ipywidget with one case at a time, previous and next buttons, and a filter."""
        from chatcontract.viewers.widgets import answers_widget

        return answers_widget(self)


_LEGEND = (
    '<p class="n"><mark>underlined</mark> required fact found &nbsp; '
    '<mark class="u">wavy, with a cross<sup>✗</sup></mark> claim without support</p>'
)


def answers_view(
    rows: Sequence[Mapping[str, Any]],
    *,
    names: Sequence[str] = ("before", "after"),
    title: str = "",
    open_cases: int = 5,
) -> AnswersView:
    """Show answers side by side.

    Args:
        rows: ``{"question": str, "evidence": str, "before": answer, "after": answer}`` each, where an answer
            is ``{"text": str, "grounded": bool, "stopped": bool, "found": [str], "missing": [str],
            "unsupported": [str]}``; only the text must be there.
        names: the keys of the answers, in the order of the columns.
        title: shown above the cases.
        open_cases: how many cases the static page shows without a click.

    Raises:
        ValueError: a row lacks its question or an answer; the message names the row.
    """
    cases = []
    for index, row in enumerate(rows):
        missing = [key for key in ("question", *names) if key not in row]
        if missing:
            raise ValueError(
                f"rows[{index}] has no {missing[0]!r}: it needs a question and {' and '.join(names)}."
            )
        answers = tuple((name, Answer.from_dict(row[name], f"rows[{index}][{name!r}]")) for name in names)
        cases.append(Case(str(row["question"]), str(row.get("evidence") or ""), answers))
    return AnswersView(tuple(cases), title, open_cases)


def compare_answers(
    *, title: str = "", open_cases: int = 5, **records: Sequence[Mapping[str, Any]]
) -> AnswersView:
    """Show the records of two or more evaluations of the same cases, for instance before and after training.

    Args:
        title: shown above the cases.
        open_cases: how many cases the static page shows without a click.
        records: one list per column, named by its keyword: ``compare_answers(before=..., after=...)``, each
            as ``chatcontract.evaluate.Evaluation.records()`` gives it.

    Raises:
        ValueError: the lists differ in length or in a question; the message names the place.
    """
    columns = list(records.items())
    if not columns:
        raise ValueError(
            "There is nothing to compare: give records by name, compare_answers(before=..., after=...)."
        )
    first_name, first = columns[0]
    for name, column in columns[1:]:
        if len(column) != len(first):
            raise ValueError(
                f"{first_name} has {count(len(first), 'record')} but {name} has {len(column)}: "
                "evaluate the same cases."
            )
        for index, (left, right) in enumerate(zip(first, column, strict=True)):
            if left["question"] != right["question"]:
                raise ValueError(
                    f"Record {index} of {first_name} and of {name} ask different questions: "
                    "evaluate the same cases in the same order."
                )
    rows = [
        {
            "question": record["question"],
            "evidence": record.get("evidence"),
            **{name: column[index] for name, column in columns},
        }
        for index, record in enumerate(first)
    ]
    return answers_view(rows, names=[name for name, _ in columns], title=title, open_cases=open_cases)


def _pattern(phrase: str) -> re.Pattern[str]:
    """Matches ``phrase`` as whole words, whatever the case, the kind of space, hyphen or quotation mark."""
    words = ["".join(_ALIKE.get(char, re.escape(char)) for char in word) for word in phrase.split()]
    body = r"\s+".join(words)
    return re.compile(
        (r"(?<!\w)" if phrase.strip()[:1].isalnum() else "")
        + body
        + (r"(?!\w)" if phrase.strip()[-1:].isalnum() else ""),
        re.IGNORECASE,
    )


def _pieces(answer: Answer) -> list[tuple[str, str]]:
    """The answer cut into (kind, text), kind one of ``""``, ``"found"`` and ``"unsupported"``."""
    kinds = [""] * len(answer.text)
    for kind, phrases in (("found", answer.found), ("unsupported", answer.unsupported)):
        for phrase in phrases:
            if not phrase.strip():
                continue
            for match in _pattern(phrase).finditer(answer.text):
                kinds[match.start() : match.end()] = [kind] * (match.end() - match.start())
    cut: list[tuple[str, str]] = []
    start = 0
    for index in range(1, len(kinds) + 1):
        if index == len(kinds) or kinds[index] != kinds[start]:
            cut.append((kinds[start], answer.text[start:index]))
            start = index
    return cut


def _marked_text(answer: Answer) -> str:
    frames = {"": "{}", "found": "[{} ✓]", "unsupported": "[{} ✗]"}
    return "".join(frames[kind].format(text) for kind, text in _pieces(answer)) or "(empty)"


def _marked_html(answer: Answer) -> str:
    frames = {"": "{}", "found": "<mark>{}</mark>", "unsupported": '<mark class="u">{}<sup>✗</sup></mark>'}
    return "".join(frames[kind].format(escape(text)) for kind, text in _pieces(answer)) or "(empty)"


def _badges(answer: Answer) -> str:
    return " ".join(
        f'<span class="{"ok" if good else "no"}">{words}</span>' for good, words in answer.verdicts
    )


def _answer_html(answer: Answer) -> str:
    # A long answer scrolls, and what scrolls must be reachable by keyboard.
    focus = f" tabindex=0 {OWN_KEYS}" if len(answer.text) > 500 else ""
    return f'<div class="o"{focus}>{_marked_html(answer)}</div>{_lists(answer)}'


def _lists(answer: Answer) -> str:
    parts = []
    if answer.missing:
        parts.append(f"<b>missing:</b> {escape('; '.join(answer.missing))}")
    if answer.unsupported:
        parts.append(f"<b>unsupported:</b> {escape('; '.join(answer.unsupported))}")
    return "".join(f'<p class="y">{part}</p>' for part in parts)
