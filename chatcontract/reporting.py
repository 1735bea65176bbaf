"""How a notebook states what it measured, for its reader and for the program that ran it."""

import html
import math
from typing import Any

FIGURES_MIME = "application/vnd.chatcontract.figures+json"

Figure = bool | int | float | str | None


def report(**figures: Any) -> None:
    """Show measured figures as a small table, and attach them to the cell's output for programs.

    Put the unit into the name: `report(grounded_after=0.98, train_seconds=212.4)`. `course.py run` collects
    what a lab reports into build/run.json. NumPy and torch scalars count as the numbers they hold; a number
    that is not finite is shown as it is and stored as null, which is all JSON has for it.

    Raises:
        TypeError: a value is not a number, a truth value, a text or None.
    """
    from IPython import get_ipython
    from IPython.display import display

    values = {name: _plain(name, value) for name, value in figures.items()}
    rows = [(name, _shown(value)) for name, value in values.items()]
    width = max((len(name) for name, _ in rows), default=0)
    text = "\n".join(f"{name:<{width}}  {shown}" for name, shown in rows)
    if get_ipython() is None:
        print(text)
        return
    cells = "".join(
        f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:right">{html.escape(shown)}</td></tr>'
        for name, shown in rows
    )
    stored = {name: None if _not_finite(value) else value for name, value in values.items()}
    bundle = {
        "text/plain": text,
        "text/html": f"<table><caption>Measured</caption><tbody>{cells}</tbody></table>",
        FIGURES_MIME: stored,
    }
    display(bundle, raw=True)


def _plain(name: str, value: Any) -> Figure:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"report({name}=...) got a {type(value).__name__}: give one number, truth value or text per figure."
    )


def _shown(value: Figure) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _not_finite(value: Figure) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
