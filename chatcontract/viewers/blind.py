"""Answers without names: the reader chooses first and learns afterwards which model wrote which."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from html import escape
from typing import Any

from chatcontract.viewers.answers import Answer, AnswersView, Case
from chatcontract.viewers.page import count, folded, page

LETTERS = "ABCDEFGH"
NO_DIFFERENCE, NOT_READ = "=", "."


@dataclass(frozen=True, repr=False)
class RevealedView(AnswersView):
    """The same cases with names, verdicts and the reader's votes."""

    said: str = ""

    @property
    def summary(self) -> str:
        """How the votes fell, and how often they agree with the rules."""
        return self.said


@dataclass(frozen=True, repr=False)
class BlindView:
    """Cases whose answers are called A and B, in an order that a seed decides anew for each case.

    Show it as HTML or text, vote with :meth:`widget` or by letters, then call :meth:`reveal`. Build it with
    ``compare_answers(...).blind()``.
    """

    view: AnswersView
    seed: int = 0
    open_cases: int = 5
    votes: dict[int, str] = field(default_factory=dict)
    """What the widget's buttons said, by case from 0: a letter, or ``=`` for no difference."""

    @property
    def orders(self) -> list[list[int]]:
        """For each case the columns of ``view`` in the order of the letters."""
        chance = random.Random(self.seed)
        return [chance.sample(range(len(case.answers)), len(case.answers)) for case in self.view.cases]

    def lettered(self, index: int) -> list[tuple[str, str]]:
        """Letter and text of each answer to one case."""
        answers = self.view.cases[index].answers
        return [
            (letter, answers[column][1].text)
            for letter, column in zip(LETTERS, self.orders[index], strict=False)
        ]

    def text(self, limit: int | None = None) -> str:
        """All cases as text, without names and verdicts."""
        lines = [line for line in (self.view.title, _HOW) if line]
        for index, case in enumerate(self.view.cases[:limit]):
            lines += ["", f"Case {index + 1}", f"  Question: {case.question}", f"  Evidence: {case.evidence}"]
            lines += [f"  {letter}: {said or '(empty)'}" for letter, said in self.lettered(index)]
        if limit is not None and len(self.view.cases) > limit:
            lines += ["", f"... {len(self.view.cases) - limit} more cases; print(view.text()) shows all."]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text(limit=5)

    def case_html(self, index: int) -> str:
        """One case, without the frame."""
        case = self.view.cases[index]
        plain = Case(
            case.question, case.evidence, tuple((name, Answer(said)) for name, said in self.lettered(index))
        )
        return AnswersView((plain,)).case_html(0).replace("<b>1. ", f"<b>{index + 1}. ", 1)

    def case_page(self, index: int) -> str:
        """One case as a page of its own, for the widget."""
        return page(self.case_html(index), label=f"Case {index + 1}", css=["answers"])

    def html(self) -> str:
        """Self-contained static HTML; cases after the first few are folded."""
        title = f'<p class="t"><b>{escape(self.view.title)}</b></p>' if self.view.title else ""
        cases = [self.case_html(index) for index in range(len(self.view.cases))]
        shown, hidden = cases[: self.open_cases], cases[self.open_cases :]
        more = folded(count(len(hidden), "more case"), "".join(hidden)) if hidden else ""
        body = f'{title}<p class="n">{escape(_HOW)}</p>{"".join(shown)}{more}'
        return page(body, label=f"Answers without names. {_HOW}", css=["answers"])

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """An ipywidget with one case at a time, buttons to vote, and one that reveals the names."""
        from chatcontract.viewers.blind_widget import blind_widget

        return blind_widget(self)

    def reveal(self, votes: str | None = None) -> RevealedView:
        """Put the names back and count the votes.

        Args:
            votes: one character per case, such as ``"AB=A."``: the letter of the better answer, ``=`` for no
                difference, ``.`` for a case that was not read. White space does not matter. Left out, the
                widget's votes count.

        Raises:
            ValueError: a vote for each case is missing, or a letter is unknown; the message says which.
        """
        chosen = self.votes if votes is None else self._read(votes)
        preferred: dict[str, int] = {name: 0 for name, _ in self.view.cases[0].answers}
        ties = agreed = comparable = 0
        cases = []
        for index, (case, order) in enumerate(zip(self.view.cases, self.orders, strict=True)):
            vote = chosen.get(index, NOT_READ)
            ties += vote == NO_DIFFERENCE
            column = order[LETTERS.index(vote)] if vote in LETTERS else None
            if column is not None:
                name, answer = case.answers[column]
                preferred[name] += 1
                if len({one.grounded for _, one in case.answers}) > 1:
                    comparable += 1
                    agreed += bool(answer.grounded)
            names = [_named(name, at, order, column) for at, (name, _) in enumerate(case.answers)]
            answers = tuple(zip(names, (one for _, one in case.answers), strict=True))
            cases.append(Case(case.question, case.evidence, answers))
        said = [self._counted(preferred, ties)]
        if comparable:
            said.append(
                "Where the rules call one answer grounded and not the other, "
                f"you agree in {agreed} of {comparable}."
            )
        said.append(self.view.summary)
        return RevealedView(tuple(cases), self.view.title, self.view.open_cases, said=" ".join(said))

    def _read(self, votes: str) -> dict[int, str]:
        letters = "".join(votes.split()).upper()
        if len(letters) != len(self.view.cases):
            raise ValueError(
                f"There are {count(len(letters), 'vote')} for {count(len(self.view.cases), 'case')}: "
                f"give one character per case, '{NOT_READ}' for a case that you did not read."
            )
        known = LETTERS[: len(self.view.cases[0].answers)]
        for index, letter in enumerate(letters):
            if letter not in known + NO_DIFFERENCE + NOT_READ:
                raise ValueError(
                    f"The vote for case {index + 1} is '{letter}': use {', '.join(known)}, "
                    f"'{NO_DIFFERENCE}' for no difference or '{NOT_READ}' for a case that you did not read."
                )
        return {index: letter for index, letter in enumerate(letters) if letter != NOT_READ}

    def _counted(self, preferred: dict[str, int], ties: int) -> str:
        voted = sum(preferred.values()) + ties
        if not voted:
            return "You have not voted yet."
        parts = [f"{name} {number}" for name, number in preferred.items()]
        return (
            f"You voted on {voted} of {count(len(self.view.cases), 'case')}: preferred "
            f"{', '.join(parts)}, no difference {ties}."
        )


_HOW = "Which answer would you send to the customer? The names come afterwards."


def _named(name: str, at: int, order: list[int], chosen: int | None) -> str:
    """The name of column `at` with the letter it had, and whether the reader chose it."""
    return f"{name} (was {LETTERS[order.index(at)]}{', your choice' if at == chosen else ''})"
