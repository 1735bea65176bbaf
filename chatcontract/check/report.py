"""What a check found, as a table in HTML and the same in text."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pprint import pformat
from textwrap import dedent
from typing import Any

from chatcontract.check.cases import PublicExercise, PublicFault
from chatcontract.check.compare import alike, first_difference, in_the_terms_of, shown
from chatcontract.check.diagnosis import Result
from chatcontract.viewers.page import count, folded, page, table, text_table

_COLUMNS = ("case", "verdict", "what is wrong")
_CONTEXT = 60
# Characters of a call on one line, and lines of an argument that needs more.
_LINE = 100
_MOST_LINES = 30


@dataclass(frozen=True)
class CheckReport:
    """The results of all public cases, and the known mistakes that explain them."""

    exercise: PublicExercise
    results: tuple[Result, ...]
    named: tuple[PublicFault, ...]

    @property
    def failed(self) -> list[Result]:
        """The failing cases: first those that show the named mistake, the smallest of them at the top."""
        shown_by = [c.name for c in self.exercise.cases if self.named and self.named[0].id in c.faults]
        return sorted(
            (r for r in self.results if not r.passed),
            key=lambda r: (r.case.name not in shown_by, len(repr(r.case.arguments))),
        )

    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return not self.failed

    @property
    def unwritten(self) -> bool:
        """Whether the stub is still there."""
        return all(r.got.raised[:1] == ("NotImplementedError",) for r in self.results)

    @property
    def explained(self) -> bool:
        """Whether the first named mistake alone gives every outcome, right and wrong."""
        if not self.named:
            return False
        same = zip(self.exercise.cases, self.results, strict=True)
        first, tolerance = self.named[0].id, self.exercise.tolerance
        return all(alike(case.of_fault(first), r.got, case.says, tolerance) for case, r in same)

    @property
    def count(self) -> str:
        """How many cases failed."""
        return f"{self.exercise.name}: {len(self.failed)} of {count(len(self.results), 'case')} failed."

    @property
    def headline(self) -> str:
        """The diagnosis in one to three sentences."""
        name = self.exercise.name
        if self.passed:
            return f"{name}: all {count(len(self.results), 'case')} passed."
        if self.unwritten:
            return f"{name} is not written yet: replace 'raise NotImplementedError()' in its cell and run it."
        head = self.count
        if self.named:
            first = self.named[0]
            lead = "" if self.explained else "Among others: "
            return f"{head} {lead}{_sentence(first.title)} {first.consequence}"
        smallest = self.failed[0]
        return f"{head} Smallest failing case, {smallest.case.name!r}: {smallest.wrong}"

    def text(self) -> str:
        """The report as plain text."""
        if self.passed or self.unwritten:
            return self.headline
        lines = [self.headline, "", text_table(_COLUMNS, self._rows())]
        smallest = self.failed[0]
        lines += ["", f"Failing case: {smallest.case.name}", *_call_lines(self.exercise, smallest)]
        lines += [f"  {name:9}{line}" for name, line in _sides(smallest, self.exercise.tolerance)]
        if why := getattr(smallest.case, "why", ""):
            lines.append(f"  {why}")
        for fault in self.named[:3]:
            lines += ["", f"{self._mark}: {fault.title}", f"  {fault.consequence}"]
            lines += [f"  First check: {fault.first_check}", f"  Seen in: {fault.citation}"]
        return "\n".join(lines)

    def html(self) -> str:
        """The report as a block of HTML."""
        ok = self.passed
        badge = f'<span class="{"ok" if ok else "no"}">{"✓ passed" if ok else "✗ not yet"}</span>'
        title = self.headline if ok or self.unwritten else self.count
        body = f'<p class="t"><b>{escape(title)}</b> {badge}</p>'
        cases = table(_COLUMNS, self._rows(), caption=f"Public cases of {self.exercise.name}")
        if ok or self.unwritten:
            body += folded("the cases", cases) if ok else ""
        else:
            body += self._mistakes_html() + self._smallest_html() + cases
        return page(body, label=self.headline, css=["answers", "check"])

    @property
    def _mark(self) -> str:
        return "The mistake" if self.explained else "One mistake"

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(r.case.name, "✓" if r.passed else "✗", r.wrong) for r in self.results]

    def _mistakes_html(self) -> str:
        return "".join(
            f'<div class="m"><p><b>{self._mark}: {escape(fault.title)}</b></p>'
            f"<p>{escape(fault.consequence)}</p>"
            f"<p><b>First check:</b> {escape(fault.first_check)}</p>"
            f'<p class="n">Seen in: {escape(fault.citation)}</p></div>'
            for fault in self.named[:3]
        )

    def _smallest_html(self) -> str:
        result = self.failed[0]
        call = escape(dedent("\n".join(_call_lines(self.exercise, result))))
        why = getattr(result.case, "why", "")
        sides = "".join(
            f'<tr><th scope="row">{name}</th><td>{line}</td></tr>'
            for name, line in _marked_sides(result, self.exercise.tolerance)
        )
        return (
            f'<p class="w"><b>Failing case: {escape(result.case.name)}.</b> {escape(result.wrong)}</p>'
            f'<pre class="c">{call}</pre><table class="d s">{sides}</table>'
            + (f'<p class="n">{escape(why)}</p>' if why else "")
        )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _call_lines(exercise: PublicExercise, result: Result) -> list[str]:
    arguments = ", ".join(f"{name}={value!r}" for name, value in result.case.arguments.items())
    if len(arguments) <= _LINE:
        return [f"  {exercise.name}({arguments})"]
    lines = [f"  {exercise.name}("]
    for name, value in result.case.arguments.items():
        margin = " " * len(f"    {name}=")
        written = pformat(value, width=_LINE - len(margin), compact=True, sort_dicts=False).splitlines()
        if len(written) > _MOST_LINES:
            cut = f"... {len(written) - _MOST_LINES + 1} lines not shown ..."
            written = [*written[: _MOST_LINES // 2], cut, *written[1 - _MOST_LINES // 2 :]]
        lines += [f"    {name}={written[0]}", *(margin + line for line in written[1:])]
        lines[-1] += ","
    return [*lines, "  )"]


def _sides(result: Result, tolerance: float) -> list[tuple[str, str]]:
    """Target and yours, cut around the first place where they part, and the student's own traceback."""
    if result.got.trace and not result.expected.raised:
        return [("target", _refusal_or_value(result.expected)), ("yours", result.got.trace)]
    if result.got.trouble or result.expected.raised or result.got.raised:
        yours = result.got.trouble.partition(": ")[2] or _refusal_or_value(result.got)
        return [("target", _refusal_or_value(result.expected)), ("yours", yours)]
    yours = in_the_terms_of(result.expected.value, result.got.value, tolerance)
    return list(zip(("target", "yours"), _cut(result.expected.value, yours), strict=True))


def _marked_sides(result: Result, tolerance: float) -> list[tuple[str, str]]:
    """The two sides as HTML, from the first difference on in a mark of its own."""
    sides = _sides(result, tolerance)
    texts = [line for _, line in sides]
    if result.got.trace or result.got.trouble or result.expected.raised or result.got.raised:
        return [(name, escape(line)) for name, line in sides]
    at = first_difference(*texts)
    mark = '{}<mark class="u">{}</mark>{}'
    return [
        (name, mark.format(escape(line[:at]), escape(line[at : at + 1]), escape(line[at + 1 :])))
        for name, line in sides
    ]


def _refusal_or_value(outcome: Any) -> str:
    if outcome.raised:
        return f"{outcome.raised[0]}: {outcome.message}"
    return shown(outcome.value, 300)


def _cut(expected: Any, got: Any) -> tuple[str, str]:
    one, other = repr(expected), repr(got)
    start = max(0, first_difference(one, other) - _CONTEXT)
    return tuple(  # type: ignore[return-value]
        ("..." if start else "")
        + text[start : start + 3 * _CONTEXT]
        + ("..." if len(text) > start + 3 * _CONTEXT else "")
        for text in (one, other)
    )
