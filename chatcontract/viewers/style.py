"""Colours and style sheets of the viewers.

Hues are those of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/), tinted or shaded where text sits on
them so that every pair in :data:`CONTRASTS` reaches the ratio that WCAG 2.2 asks for. Colour never carries a
meaning
alone: each one goes with an outline, an underline, a dash pattern, a marker shape or a word.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

LIGHT = {
    "surface": "#ffffff",
    "text": "#1f1f1f",
    "muted": "#595959",
    "line": "#8a8a8a",
    "raised": "#f1f1f1",
    "inverse": "#262626",
    "inverse-text": "#ffffff",
    "learn": "#bfe1f6",
    "learn-text": "#0b2233",
    "learn-line": "#0072b2",
    "good": "#b5e3d3",
    "good-text": "#06291f",
    "good-line": "#00785a",
    "bad": "#fbd9c4",
    "bad-text": "#3a1600",
    "bad-line": "#b84f00",
}
DARK = {
    "surface": "#111111",
    "text": "#f2f2f2",
    "muted": "#bdbdbd",
    "line": "#7d7d7d",
    "raised": "#2a2a2a",
    "inverse": "#ececec",
    "inverse-text": "#111111",
    "learn": "#0c4a70",
    "learn-text": "#ffffff",
    "learn-line": "#56b4e9",
    "good": "#0b5c46",
    "good-text": "#ffffff",
    "good-line": "#2fbf97",
    "bad": "#7a3500",
    "bad-text": "#ffffff",
    "bad-line": "#f28a3c",
}

CONTRASTS: tuple[tuple[str, str, float], ...] = (
    ("text", "surface", 4.5),
    ("text", "raised", 4.5),
    ("muted", "surface", 4.5),
    ("muted", "raised", 4.5),
    ("learn-text", "learn", 4.5),
    ("good-text", "good", 4.5),
    ("bad-text", "bad", 4.5),
    ("good-line", "surface", 4.5),
    ("bad-line", "surface", 4.5),
    ("inverse-text", "inverse", 4.5),
    ("line", "surface", 3.0),
    ("learn-line", "surface", 3.0),
    ("learn-line", "learn", 3.0),
    ("good-line", "good", 3.0),
    ("bad-line", "bad", 3.0),
)
"""(foreground, background, least ratio): 4.5 for text, 3 for lines with a meaning (WCAG 2.2, 1.4)."""


# The page behind and the text on it follow the JupyterLab theme; everything filled brings its own pair of
# colours.
_FROM_THEME = {"surface": "--jp-layout-color0", "text": "--jp-content-font-color1"}


def _variables(palette: dict[str, str]) -> str:
    return "".join(
        f"--v-{name}:var({_FROM_THEME[name]},{value});" if name in _FROM_THEME else f"--v-{name}:{value};"
        for name, value in palette.items()
    )


# JupyterLab and nbconvert, Colab, VS Code: each names its dark theme in its own way. The operating system's
# preference is not asked, because a light notebook on a dark desktop is common.
_DARK_HOSTS = ('[data-jp-theme-light="false"] .ccv', "html[theme=dark] .ccv", ".vscode-dark .ccv")

_SHEETS = Path(__file__).with_name("css")


@cache
def sheet(name: str) -> str:
    """The style sheet ``css/<name>.css`` on few lines; ``base`` comes with the colours of both themes."""
    text = (_SHEETS / f"{name}.css").read_text(encoding="utf-8")
    rules = "".join(line.strip() for line in text.splitlines() if not line.startswith("/*"))
    if name != "base":
        return rules
    return f".ccv{{{_variables(LIGHT)}}}{','.join(_DARK_HOSTS)}{{{_variables(DARK)}}}{rules}"
