"""How long the token viewers take to render, each against the others in the same run.

python -m autograder.bench_viewers
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

TOKENS = 4000
VOCABULARY = [" Report", " the", " damage", " within", " 48", " hours", " and", " photos", ".", "\n"]
LIMIT = 0.2


def measure(tokens: int = TOKENS, repeats: int = 5) -> dict[str, float]:
    """Seconds of processor time for one rendering, the best of a few, by viewer.

    The naive widget makes one ipywidgets.HTML a token, as a first attempt would; it has no browser here, so
    its time is that of Python alone.
    """
    import ipywidgets

    from chatcontract.viewers import token_view
    from chatcontract.viewers.mask import BARE, MaskView
    from chatcontract.viewers.mask_rows import MaskRow

    rng = random.Random(0)
    ids = [rng.randrange(len(VOCABULARY)) for _ in range(tokens)]
    labels = [one if t % 5 == 0 else -100 for t, one in enumerate(ids)]
    pieces = tuple(VOCABULARY[one].encode() for one in ids)
    row = MaskRow(tuple(ids), pieces, (False,) * tokens, tuple(labels))

    def mask() -> Any:
        return MaskView({(BARE, "yours"): row}, (BARE, "yours")).html()

    def plain() -> Any:
        return token_view(ids, VOCABULARY.__getitem__, labels=labels).html()

    def naive() -> Any:
        return ipywidgets.HBox([ipywidgets.HTML(f"<u>{VOCABULARY[one]}</u>") for one in ids])

    return {
        "mask_view": _best(mask, repeats),
        "token_view": _best(plain, repeats),
        "one widget a token": _best(naive, min(repeats, 2)),
    }


def _best(render: Callable[[], Any], repeats: int) -> float:
    spent = []
    for _ in range(repeats):
        before = time.process_time()
        render()
        spent.append(time.process_time() - before)
    return min(spent)


def main() -> int:
    """Print the table; 1 when the mask viewer takes longer than 200 ms."""
    console = Console(highlight=False)
    with console.status(f"rendering {TOKENS:,} tokens"):
        figures = measure()
    base = figures["token_view"]
    shown = Table(title=f"{TOKENS:,} tokens to HTML, processor time, best of a few")
    for name in ("viewer", "milliseconds", "against token_view"):
        shown.add_column(name, justify="left" if name == "viewer" else "right")
    for name, seconds in figures.items():
        shown.add_row(name, f"{seconds * 1000:.0f}", f"{seconds / base:.2f} x")
    console.print(shown)
    if figures["mask_view"] > LIMIT:
        console.print(f"mask_view is slower than {LIMIT * 1000:.0f} ms.")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
