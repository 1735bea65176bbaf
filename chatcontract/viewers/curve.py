"""The curves of a training run as one SVG picture, drawn from a list of points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
LEFT, RIGHT = 58, 118
TOP, LOSS_HEIGHT, GAP, RATE_HEIGHT, BOTTOM = 24, 150, 44, 120, 50
MOST_POINTS = 300


@dataclass(frozen=True)
class Point:
    """What is known at one training step; ``None`` where nothing was measured.

    ``seconds`` is the time since the start, ``tokens`` the number of tokens trained on since the start,
    ``grounded`` and ``stop`` are shares between 0 and 1, ``loss`` is in nats per supervised token.
    """

    step: int
    seconds: float | None = None
    loss: float | None = None
    grounded: float | None = None
    stop: float | None = None
    tokens: int | None = None
    memory_bytes: int | None = None


def clock(seconds: float) -> str:
    """``125`` as ``2:05``, ``3725`` as ``1:02:05``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ticks(low: float, high: float, about: int) -> list[float]:
    """About ``about`` round numbers from ``low`` to ``high``, in steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def smoothed(values: Sequence[float], keep: float = 0.8) -> list[float]:
    """Exponential moving average, corrected for its start as in Adam (Kingma and Ba 2015, section 3)."""
    total, out = 0.0, []
    for count, value in enumerate(values, start=1):
        total = keep * total + (1 - keep) * value
        out.append(total / (1 - keep**count))
    return out


def measured(points: Sequence[Point], attribute: str) -> list[tuple[int, float]]:
    """(step, value) of every point that has ``attribute``."""
    known = ((point.step, getattr(point, attribute)) for point in points)
    return [(step, value) for step, value in known if value is not None]


def _thinned(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``MOST_POINTS`` means of equal runs of points; the last point is kept as it is."""
    if len(pairs) <= MOST_POINTS:
        return list(pairs)
    size = -(-len(pairs) // (MOST_POINTS - 1))
    runs = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    means = [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]
    return [*means, pairs[-1]]


def _seconds_at(step: float, points: Sequence[Point]) -> float | None:
    timed = [(point.step, point.seconds) for point in points if point.seconds is not None]
    if not timed or step > timed[-1][0]:
        return None
    before = (0, 0.0)
    for at, seconds in timed:
        if at >= step:
            share = (step - before[0]) / (at - before[0]) if at > before[0] else 1.0
            return before[1] + share * (seconds - before[1])
        before = (at, seconds)
    return None


def curve_svg(
    points: Sequence[Point],
    *,
    total_steps: int | None = None,
    target: float | None = None,
    rates: bool = True,
) -> str:
    """Loss above, grounded and stop rate below, over the same steps.

    Loss is a solid line, the grounded rate has filled circles on a solid line, the stop rate open squares on
    a dashed line, so the three can be told apart without colour.

    Args:
        points: in the order of their steps.
        total_steps: right end of the axis; the last step when it is not known.
        target: a rate to draw as a dotted line.
        rates: draw the lower panel.
    """
    last = points[-1].step if points else 0
    right = max(total_steps or 0, last, 1)
    rate_top = TOP + LOSS_HEIGHT + GAP
    bottom = rate_top + RATE_HEIGHT if rates else TOP + LOSS_HEIGHT
    height = bottom + BOTTOM
    inner = WIDTH - LEFT - RIGHT

    def across(step: float) -> float:
        return LEFT + inner * step / right

    loss = measured(points, "loss")
    highest = max((value for _, value in loss), default=1.0) * 1.05 or 1.0

    def loss_down(value: float) -> float:
        return TOP + LOSS_HEIGHT * (1 - value / highest)

    def rate_down(value: float) -> float:
        return rate_top + RATE_HEIGHT * (1 - value)

    parts = [_text(LEFT, TOP - 9, "Training loss (nats per supervised token)", weight=600)]
    for value in ticks(0, highest, 4):
        parts.append(_grid(loss_down(value), f"{value:g}"))
    steps = ticks(0, right, 6)
    for step in steps:
        x = across(step)
        parts.append(_axis(x, x, bottom, bottom + 4))
        parts.append(_text(x, bottom + 16, f"{step:g}", anchor="middle"))
        seconds = _seconds_at(step, points)
        if seconds is not None:
            parts.append(_text(x, bottom + 29, clock(seconds), anchor="middle", kind="q"))
    below = "Training step, and elapsed time (min:s)"
    parts.append(_text(LEFT + inner / 2, height - 6, below, anchor="middle"))
    parts.append(_axis(LEFT, LEFT + inner, bottom, bottom))

    if loss:
        raw = [(across(x), loss_down(y)) for x, y in _thinned(loss)]
        many = len(loss) > 40
        parts.append(_line(raw, "lo", 1 if many else 2, opacity=0.45 if many else 1.0))
        if many:
            trend = list(zip((x for x, _ in loss), smoothed([y for _, y in loss]), strict=True))
            drawn = [(across(x), loss_down(y)) for x, y in _thinned(trend)]
            parts.append(_line(drawn, "lo", 2.5))
            end, shown = drawn[-1], f"trend {trend[-1][1]:.3g}"
        else:
            end, shown = raw[-1], f"loss {loss[-1][1]:.3g}"
        parts.append(_text(end[0] + 8, min(end[1] + 4, TOP + LOSS_HEIGHT), shown))
    else:
        parts.append(_text(LEFT + inner / 2, TOP + LOSS_HEIGHT / 2, "no loss yet", anchor="middle", kind="q"))

    if rates:
        parts.append(_text(LEFT, rate_top - 14, "Held-out answers (share of all)", weight=600))
        for value in (0.0, 0.25, 0.5, 0.75, 1.0):
            parts.append(_grid(rate_down(value), f"{value:g}"))
        if target is not None:
            y = rate_down(target)
            parts.append(_axis(LEFT, LEFT + inner, y, y, dashes="2 3"))
            parts.append(_text(LEFT + 4, y + 13, f"target {target:g}", kind="q"))
        parts += _rates(points, across, rate_down, LEFT + inner / 2, rate_top + RATE_HEIGHT / 2)

    said = escape(describe(points, total_steps))
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-size="12" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{said}</title>{"".join(parts)}</svg>'
    )


def describe(points: Sequence[Point], total_steps: int | None = None) -> str:
    """The picture in words, for screen readers."""
    if not points:
        return "Training curves; no step is done yet."
    of = f" of {total_steps}" if total_steps else ""
    parts = [f"Training curves up to step {points[-1].step}{of}."]
    for name, attribute in (("Loss", "loss"), ("Grounded rate", "grounded"), ("Stop rate", "stop")):
        known = measured(points, attribute)
        if len(known) == 1:
            parts.append(f"{name} {known[0][1]:.3g} at step {known[0][0]}.")
        elif known:
            parts.append(f"{name} from {known[0][1]:.3g} at step {known[0][0]} to {known[-1][1]:.3g}.")
    return " ".join(parts)


def _rates(
    points: Sequence[Point],
    across: Callable[[float], float],
    down: Callable[[float], float],
    middle_x: float,
    middle_y: float,
) -> list[str]:
    parts: list[str] = []
    labels: list[tuple[float, float, str]] = []
    for attribute, name, kind in (("stop", "stops", "st"), ("grounded", "grounded", "go")):
        known = measured(points, attribute)
        drawn = [(across(x), down(min(1.0, max(0.0, y)))) for x, y in known]
        if not drawn:
            continue
        parts.append(_line(drawn, kind, 2, dashes="6 4" if kind == "st" else ""))
        for x, y in drawn if len(drawn) <= 60 else drawn[:: -(-len(drawn) // 60)]:
            parts.append(
                f'<rect class="st" stroke="currentColor" fill="none" stroke-width="2" '
                f'x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
                if kind == "st"
                else f'<circle class="go" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'
            )
        sign = "□" if kind == "st" else "●"
        labels.append((drawn[-1][0] + 10, drawn[-1][1] + 4, f"{sign} {name} {known[-1][1]:.2f}"))
    labels.sort(key=lambda label: label[1])
    if len(labels) == 2 and labels[1][1] - labels[0][1] < 14:
        x, y, text = labels[1]
        labels[1] = (x, labels[0][1] + 14, text)
    parts += [_text(x, y, text) for x, y, text in labels]
    if not labels:
        parts.append(_text(middle_x, middle_y, "no evaluation yet", anchor="middle", kind="q"))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "", kind: str = "", weight: int = 0) -> str:
    extra = (f' text-anchor="{anchor}"' if anchor else "") + (f' class="{kind}"' if kind else "")
    extra += f' font-weight="{weight}"' if weight else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{escape(text, quote=False)}</text>'


def _grid(y: float, label: str) -> str:
    return (
        f'<line class="gr" stroke="currentColor" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        + _text(LEFT - 8, y + 4, label, anchor="end")
    )


def _axis(x1: float, x2: float, y1: float, y2: float, *, dashes: str = "") -> str:
    extra = f' stroke-width="1.5" stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line class="ax" stroke="currentColor"{extra} '
        f'x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'
    )


def _line(
    drawn: Sequence[tuple[float, float]],
    kind: str,
    thickness: float,
    *,
    dashes: str = "",
    opacity: float = 1.0,
) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    extra = f' stroke-dasharray="{dashes}"' if dashes else ""
    extra += f' opacity="{opacity}"' if opacity < 1 else ""
    return (
        f'<polyline class="{kind}" fill="none" stroke="currentColor" stroke-width="{thickness}" '
        f'stroke-linejoin="round"{extra} points="{path}"/>'
    )
