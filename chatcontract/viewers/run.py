"""The training-run viewer: a live curve that needs no widgets and leaves its last picture in the notebook."""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from html import escape
from typing import Any

from chatcontract.viewers.curve import Point, clock, curve_svg, describe, measured
from chatcontract.viewers.page import folded, page, table, text_table

_NUMBERS = tuple(item.name for item in fields(Point) if item.name != "step")


@dataclass
class RunLog:
    """The measurements of one training run, in the order they came. :meth:`to_json` keeps them all."""

    total_steps: int | None = None
    title: str = ""
    points: list[Point] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)
    """Steps whose loss was NaN or infinite."""

    def add(
        self,
        step: int,
        *,
        loss: float | str | None = None,
        grounded: float | None = None,
        stop: float | None = None,
        seconds: float | None = None,
        tokens: float | None = None,
        memory_bytes: float | None = None,
    ) -> None:
        """Append what was measured at ``step``; measurements of the same step are merged.

        Args:
            step: optimizer steps done so far, never fewer than before.
            loss: mean training loss, nats per supervised token; a string is read as a number, because
                transformers logs rounded losses as strings.
            grounded: share of held-out answers that are grounded, 0 to 1.
            stop: share of held-out answers that stopped by themselves, 0 to 1.
            seconds: time since the start.
            tokens: tokens trained on since the start.
            memory_bytes: memory in use.

        Raises:
            ValueError: a value is no number, a rate is outside 0 to 1, or the step goes back.
        """
        last = self.points[-1] if self.points else None
        if last is not None and step < last.step:
            raise ValueError(f"step {step} comes after step {last.step}: add measurements in order.")
        given = {
            "loss": loss,
            "grounded": grounded,
            "stop": stop,
            "seconds": seconds,
            "tokens": tokens,
            "memory_bytes": memory_bytes,
        }
        values: dict[str, Any] = {}
        for name, value in given.items():
            if value is None:
                continue
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} at step {step} is {value!r}, which is not a number.") from error
            if not math.isfinite(number):
                if name == "loss":
                    self.not_finite.append(int(step))
                continue
            if name in ("grounded", "stop") and not 0 <= number <= 1:
                raise ValueError(f"{name} at step {step} is {number:g}: give a share between 0 and 1.")
            values[name] = int(number) if name in ("tokens", "memory_bytes") else number
        if last is not None and last.step == step:
            values = {name: getattr(last, name) for name in _NUMBERS} | values
            self.points[-1] = Point(int(step), **values)
        else:
            self.points.append(Point(int(step), **values))

    def last(self, name: str) -> Any:
        """The latest known value of ``name``, for instance ``"grounded"``; ``None`` when there is none."""
        values = (getattr(point, name) for point in reversed(self.points))
        return next((value for value in values if value is not None), None)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.points[-1].step if self.points else 0

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the mean time per step so far; ``None`` without a total or two timed steps."""
        timed = measured(self.points, "seconds")
        if self.total_steps is None or len(timed) < 2:
            return None
        (first_step, first), (last_step, last) = timed[0], timed[-1]
        return max(0, self.total_steps - self.step) * (last - first) / (last_step - first_step)

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens trained on per second, over the last 20 points that say so."""
        both = ((point.seconds, point.tokens) for point in self.points)
        known = [(0.0, 0), *((at, tokens) for at, tokens in both if at is not None and tokens is not None)]
        (first, tokens_first), (last, tokens_last) = known[-20:][0], known[-1]
        return (tokens_last - tokens_first) / (last - first) if last > first else None

    def to_json(self) -> str:
        """The whole log as one JSON object; steps keep only what was measured."""
        data = asdict(self)
        data["points"] = [
            {name: value for name, value in point.items() if value is not None} for point in data["points"]
        ]
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> RunLog:
        """The log that :meth:`to_json` wrote.

        Raises:
            ValueError: the text is no such log.
        """
        try:
            data = json.loads(text)
            return cls(**data | {"points": [Point(**point) for point in data["points"]]})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"This is no run log: {error}. RunLog.to_json() writes one.") from error


class RunView:
    """A picture of a :class:`RunLog` that follows it while training goes on.

    In a notebook :meth:`show` makes one output that :meth:`update` redraws in place; in a terminal the same
    calls keep one line of progress. Nothing here raises into a training loop: what goes wrong in an update
    is warned of once.

    Args:
        total_steps: optimizer steps of the whole run, for the progress bar and the remaining time.
        title: shown above the curves.
        log: a log to show, for instance of an earlier run; by default a new one.
        target: a rate to draw as a dotted line.
        refresh_seconds: least time between two redraws; evaluations and the end are always drawn.
    """

    def __init__(
        self,
        total_steps: int | None = None,
        title: str = "",
        *,
        log: RunLog | None = None,
        target: float | None = None,
        refresh_seconds: float = 0.5,
    ) -> None:
        self.log = log or RunLog(total_steps, title)
        self.target = target
        self.refresh_seconds = refresh_seconds
        self.note = "" if log is None else "finished"
        self._started = time.perf_counter()
        self._drawn = -math.inf
        self._tenth = -1
        self._handle: Any = None
        self._shown = False
        self._warned = False

    def __enter__(self) -> RunView:
        self.show()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.finish("finished" if kind is None else f"stopped by {kind.__name__}")

    def show(self) -> None:
        """Start the clock and the display."""
        self._started = time.perf_counter()
        self._shown = True
        self._guarded(self._draw)

    def update(self, step: int, **values: Any) -> None:
        """Add measurements, as :meth:`RunLog.add` takes them, and redraw when it is time to.

        ``seconds`` and ``memory_bytes`` are measured here when they are left out.
        """
        self._guarded(self._add, step, values)

    def finish(self, note: str = "finished") -> None:
        """Draw the last picture, which stays in the notebook."""
        self.note = note
        if self._shown:
            self._guarded(self._draw, True)

    def _add(self, step: int, values: dict[str, Any]) -> None:
        if values.get("seconds") is None:
            values["seconds"] = time.perf_counter() - self._started
        if values.get("memory_bytes") is None:
            values["memory_bytes"] = memory_in_use()
        self.log.add(step, **values)
        evaluated = values.get("grounded") is not None or values.get("stop") is not None
        if self._shown and (evaluated or time.perf_counter() - self._drawn >= self.refresh_seconds):
            self._draw()

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:  # a broken picture must not end hours of training
            if not self._warned:
                self._warned = True
                warnings.warn(f"The run viewer could not be updated: {error}", RuntimeWarning, stacklevel=3)

    def _draw(self, last: bool = False) -> None:
        if in_notebook():
            from IPython.display import display

            if self._handle is None:
                self._handle = display(self, display_id=True)
            else:
                self._handle.update(self)
        else:
            self._print_line(last)
        self._drawn = time.perf_counter()

    def _print_line(self, last: bool) -> None:
        line = ", ".join(part for part in (self.log.title, *self._facts()) if part)
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K" + line[:200] + ("\n" if last else ""))
        else:
            tenth = 10 * self.log.step // (self.log.total_steps or max(1, self.log.step))
            if not last and tenth <= self._tenth:
                return
            self._tenth = tenth
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _facts(self) -> list[str]:
        log = self.log
        of = f" of {log.total_steps}" if log.total_steps else ""
        facts = [f"step {log.step}{of}"]
        seconds, left, speed = log.last("seconds"), log.seconds_left, log.tokens_per_second
        if seconds is not None:
            facts.append(f"{clock(seconds)} elapsed")
        if left is not None and not self.note:
            facts.append(f"about {clock(left)} left")
        if speed is not None:
            facts.append(f"{speed:,.0f} tokens/s")
        memory = log.last("memory_bytes")
        if memory is not None:
            facts.append(f"{memory / 2**30:.1f} GiB")
        shown = {"loss": "loss {:.3g}", "grounded": "grounded {:.2f}", "stop": "stops {:.2f}"}
        facts += [words.format(log.last(name)) for name, words in shown.items() if log.last(name) is not None]
        if self.note:
            facts.append(self.note)
        return facts

    @property
    def _warning(self) -> str:
        if not self.log.not_finite:
            return ""
        return (
            f"The loss was not a finite number at step {self.log.not_finite[0]}: from there on the weights "
            "are worth nothing. Lower the learning rate, or leave fp16."
        )

    def text(self) -> str:
        """Status line and a table of at most 20 measurements, every evaluation among them if they fit."""
        lines = [line for line in (self.log.title, ", ".join(self._facts()), self._warning) if line]
        if self.log.points:
            lines.append(text_table(_COLUMNS, _cells(self.log)))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def html(self) -> str:
        """Self-contained static HTML with the curves as SVG and the numbers as a folded table."""
        log = self.log
        parts = [f'<p class="t"><b>{escape(log.title)}</b></p>'] if log.title else []
        parts.append(f'<p class="n">{escape(" · ".join(self._facts()))}</p>')
        if log.total_steps:
            share = min(1.0, log.step / log.total_steps)
            parts.append(f'<div class="b" aria-hidden="true"><i style="width:{share:.1%}"></i></div>')
        if self._warning:
            parts.append(f'<p class="e"><b>{escape(self._warning)}</b></p>')
        rates = not self.note or log.last("grounded") is not None or log.last("stop") is not None
        parts.append(curve_svg(log.points, total_steps=log.total_steps, target=self.target, rates=rates))
        if log.points:
            parts.append(folded("The same as a table", table(_COLUMNS, _cells(log))))
        return page("".join(parts), label=describe(log.points, log.total_steps), css=["run"])

    def _repr_html_(self) -> str:
        return self.html()

    def widget(self) -> Any:
        """An ipywidget that holds the present picture; :meth:`show` is the one that follows a run."""
        from chatcontract.viewers.widgets import run_widget

        return run_widget(self)


_COLUMNS = ["step", "elapsed", "loss", "grounded", "stops"]


def _cells(log: RunLog, most: int = 20) -> list[list[object]]:
    rated = [point for point in log.points if point.grounded is not None or point.stop is not None]
    evaluated = rated[-most:]
    others = [point for point in log.points[:-1] if point.grounded is None and point.stop is None]
    room = most - len(evaluated)
    kept = others[:: -(-len(others) // room)] if room and others else []
    chosen = sorted({point.step: point for point in [*evaluated, *kept, log.points[-1]]}.values(), key=_step)
    return [
        [
            point.step,
            None if point.seconds is None else clock(point.seconds),
            None if point.loss is None else f"{point.loss:.4g}",
            None if point.grounded is None else f"{point.grounded:.2f}",
            None if point.stop is None else f"{point.stop:.2f}",
        ]
        for point in chosen
    ]


def _step(point: Point) -> int:
    return point.step


def in_notebook() -> bool:
    """Whether a Jupyter kernel is running this process. IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def memory_in_use() -> int | None:
    """Bytes held on the CUDA device if one is in use, else in main memory; ``None`` when nobody can say."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.memory_reserved())
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.Process().memory_info().rss)
