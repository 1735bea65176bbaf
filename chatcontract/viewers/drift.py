"""Deployments against the run they came from: template, special ids, tokens, and what a server counts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Any

from chatcontract.viewers.comparison import CompareView, compare
from chatcontract.viewers.page import OWN_KEYS, count, folded, page, text_table
from chatcontract.viewers.tokens import TokenView, token_view

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = ("template", "special ids", "first different token", "prompt tokens")
NOT_STATED = "not stated"
_CONTEXT = (3, 6)


@dataclass(frozen=True)
class Finding:
    """One comparison of one deployment: ``good`` is None where there was nothing to compare."""

    good: bool | None
    words: str

    @property
    def marked(self) -> str:
        """The words after a mark that needs no colour."""
        return f"{ {True: '✓', False: '✗', None: '·'}[self.good] } {self.words}"


@dataclass(frozen=True)
class Deployment:
    """What is known of one deployment, next to the training run.

    Attributes:
        findings: one per column of ``COLUMNS``.
        tokens: the two prompts from before their first difference, as rows of (position, training, served).
        template_diff: lines of training alone begin with ``-``, lines of the server alone with ``+``.
    """

    name: str
    findings: tuple[Finding, ...]
    tokens: tuple[tuple[str, str | None, str | None], ...] = ()
    template_diff: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether any comparison failed; what a deployment does not state is drift too."""
        return any(finding.good is False for finding in self.findings)


@dataclass(frozen=True, repr=False)
class DriftView:
    """A table of deployments, shown as HTML, as text or, one deployment at a time, as a widget."""

    deployments: tuple[Deployment, ...]
    title: str = ""

    @property
    def summary(self) -> str:
        """For instance ``3 of 4 deployments drifted: A, B, C.``"""
        names = [one.name for one in self.deployments if one.drifted]
        total = count(len(self.deployments), "deployment")
        if not names:
            return f"No drift was found in {total}: a reason to evaluate, and no proof."
        return f"{len(names)} of {total} drifted: {', '.join(names)}."

    def text(self) -> str:
        """The table, then for each drifted deployment its tokens and its template next to training's."""
        lines = [line for line in (self.title, self.summary) if line]
        grid = [[one.name, *(finding.marked for finding in one.findings)] for one in self.deployments]
        lines += ["", text_table(["deployment", *COLUMNS], grid)]
        for one in self.deployments:
            if one.tokens:
                lines += ["", f"{one.name}: around the first difference", text_table(_TOKENS, one.tokens)]
            if one.template_diff:
                lines += ["", f"{one.name}: template, - training + served", *one.template_diff]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def _details(self, one: Deployment) -> str:
        parts = []
        if one.tokens:
            rows = "".join(
                f'<tr><th scope="row">{escape(position)}</th>'
                + "".join(f"<td>{'<i>ended</i>' if text is None else escape(text)}</td>" for text in pair)
                + "</tr>"
                for position, *pair in one.tokens
            )
            head = "".join(f'<th scope="col">{name}</th>' for name in _TOKENS)
            parts.append(
                f'<table class="d dr-k"><caption>{escape(one.name)}: around the first difference</caption>'
                f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            )
        if one.template_diff:
            lines = "".join(_diff_line(line) for line in one.template_diff)
            parts.append(
                f'<p class="n">{escape(one.name)}: template, − training, + served</p>'
                f'<pre class="dr-v" tabindex=0 {OWN_KEYS}>{lines}</pre>'
            )
        return "".join(parts)

    def table_html(self) -> str:
        """One line per deployment."""
        head = "".join(f'<th scope="col">{name}</th>' for name in ("deployment", *COLUMNS))
        rows = "".join(
            f'<tr><th scope="row">{escape(one.name)}</th>'
            + "".join(f'<td class="{_CLASS[f.good]}">{escape(f.marked)}</td>' for f in one.findings)
            + "</tr>"
            for one in self.deployments
        )
        return (
            f'<div class="w" tabindex=0 {OWN_KEYS}><table class="d dr">'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )

    def deployment_page(self, index: int) -> str:
        """One deployment as a page of its own, for the widget."""
        one = self.deployments[index]
        alone = DriftView((one,))
        body = alone.table_html() + (self._details(one) or '<p class="n">Nothing differs.</p>')
        return page(body, label=f"{one.name}. {alone.summary}", css=["drift"])

    def html(self) -> str:
        """Self-contained static HTML; tokens and templates are folded."""
        title = f'<p class="t"><b>{escape(self.title)}</b></p>' if self.title else ""
        more = "".join(
            folded(f"{one.name}: where it differs", details)
            for one in self.deployments
            if (details := self._details(one))
        )
        body = f'{title}<p class="n">{escape(self.summary)}</p>{self.table_html()}{more}'
        return page(body, label=f"Deployments against training. {self.summary}", css=["drift"])

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """An ipywidget with one button per deployment."""
        from chatcontract.viewers.widgets import _choice

        return _choice([one.name for one in self.deployments], "Deployment", self.deployment_page)


_TOKENS = ("token", "training", "served")
_CLASS = {True: "dr-y", False: "dr-x", None: "dr-z"}


def drift_view(
    trained: Mapping[str, Any],
    served: Mapping[str, Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    title: str = "",
) -> DriftView:
    """Hold deployments against the run they came from.

    Args:
        trained: ``{"template": str, "special": {name: id}, "ids": [[int]]}``: chat template, special ids and
            the prompts of some probing chats, as ``chatcontract.manifest.prompt_record`` gives it.
        served: the same of each deployment, by name; with ``"prompt_tokens": [int]`` also what the server
            counted for each probe. A field that is left out is called not stated, which is drift; without
            ``prompt_tokens`` nobody asked the server, which is not.
        tokenizer: turns the ids of both sides into text.
        title: shown above the table.

    Raises:
        ValueError: training lacks a field, there is no deployment, or the numbers of probes differ; the
            message names the place.
    """
    for field in ("template", "special", "ids"):
        if field not in trained:
            raise ValueError(f"The training record has no '{field}': make it with manifest.prompt_record.")
    if not served:
        raise ValueError("There is no deployment to compare: give {name: record}.")
    rows = [_deployment(name, trained, record, tokenizer) for name, record in served.items()]
    return DriftView(tuple(rows), title)


def _deployment(
    name: str,
    trained: Mapping[str, Any],
    served: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
) -> Deployment:
    probes = len(trained["ids"])
    for field in ("ids", "prompt_tokens"):
        if field in served and len(served[field]) != probes:
            raise ValueError(
                f"{name} has {len(served[field])} {field} for {count(probes, 'probe')}: ask the same chats."
            )
    pair, first = None, Finding(False, NOT_STATED)
    if "ids" in served:
        pair, first = _first_token(trained["ids"], served["ids"], tokenizer)
    findings = (
        _template(trained["template"], served.get("template")),
        _special(trained["special"], served.get("special")),
        first,
        _lengths(trained["ids"], served.get("prompt_tokens")),
    )
    return Deployment(
        name,
        findings,
        () if pair is None else _window(pair),
        _diff(trained["template"], served.get("template")),
    )


def _template(ours: str, theirs: str | None) -> Finding:
    if not theirs:
        return Finding(False, NOT_STATED)
    return Finding(ours == theirs, f"{'same' if ours == theirs else 'another'}, {_short(theirs)}")


def _short(template: str) -> str:
    return sha256(template.encode()).hexdigest()[:8]


def _special(ours: Mapping[str, int], theirs: Mapping[str, int] | None) -> Finding:
    if theirs is None:
        return Finding(False, NOT_STATED)
    other = [
        f"{name} {ours.get(name, 'none')} → {theirs.get(name, 'none')}"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    return Finding(not other, ", ".join(other) or f"same, {count(len(ours), 'id')}")


def _first_token(
    ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> tuple[CompareView | None, Finding]:
    """The first probe whose prompts differ, and where."""
    for number, (left, right) in enumerate(zip(ours, theirs, strict=True), start=1):
        if list(left) != list(right):
            pair = compare(_view(left, tokenizer, "training"), _view(right, tokenizer, "served"))
            at = pair.difference
            if at is None:
                continue
            words = [view.rows[at].text if at < len(view) else "ended" for view in pair.views]
            probe = f" of probe {number}" if len(ours) > 1 else ""
            return pair, Finding(False, f"token {at}{probe}: {words[0]} → {words[1]}")
    return None, Finding(True, f"none in {count(sum(map(len, ours)), 'token')}")


def _view(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, title: str) -> TokenView:
    if max(ids, default=0) < len(tokenizer):
        return token_view(list(ids), tokenizer, title=title)
    # a server with another vocabulary: its ids have no text here
    return token_view([f"id {one}" for one in ids], title=title)


def _lengths(ours: Sequence[Sequence[int]], said: Sequence[int] | None) -> Finding:
    if said is None:
        return Finding(None, "server not asked")
    off = [counted - len(ids) for ids, counted in zip(ours, said, strict=True)]
    if not any(off):
        return Finding(True, f"as training counts: {', '.join(map(str, said))}")
    signed = ", ".join(f"{one:+d}" if one else "0" for one in off)
    constant = len(off) > 1 and len(set(off)) == 1
    return Finding(False, f"{signed}{', the same for every probe' if constant else ''}")


def _window(pair: CompareView) -> tuple[tuple[str, str | None, str | None], ...]:
    at = pair.difference or 0
    left, right = pair.views
    start, stop = max(0, at - _CONTEXT[0]), min(max(len(left), len(right)), at + _CONTEXT[1])

    def text(view: TokenView, index: int) -> str | None:
        return view.rows[index].text if index < len(view) else None

    return tuple(
        (f"{index} ≠" if index == at else str(index), text(left, index), text(right, index))
        for index in range(start, stop)
    )


def _diff(ours: str, theirs: str | None) -> tuple[str, ...]:
    if not theirs or ours == theirs:
        return ()
    lines = difflib.unified_diff(ours.splitlines(), theirs.splitlines(), n=1, lineterm="")
    return tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))


def _diff_line(line: str) -> str:
    kind = {"-": "del", "+": "ins"}.get(line[:1])
    return f"<{kind}>{escape(line)}</{kind}>\n" if kind else f"{escape(line)}\n"
