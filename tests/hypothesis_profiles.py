"""How many generated conversations a property is tried on, and what such conversations look like.

HYPOTHESIS_PROFILE=ci (the default) tries 500 fixed examples, HYPOTHESIS_PROFILE=nightly 10,000 fresh ones.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_SLOW_FIRST_CALL = [HealthCheck.too_slow]

settings.register_profile(
    "ci",
    max_examples=500,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=_SLOW_FIRST_CALL,
)
settings.register_profile(
    "nightly",
    max_examples=10_000,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=_SLOW_FIRST_CALL,
)

PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Pieces that templates and tokenizers are known to stumble over: runs of white space, line breaks of all
# kinds, text that looks like a marker but is none, composed and joined characters, digits.
_AWKWARD = [
    *(
        "",
        " ",
        "  ",
        "     ",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\t",
        " \n ",
        "\u00a0",
        "\u2028",
        "\u3000",
        "\u200b",
    ),
    *("[INST]", "[/INST]", "<<SYS>>", "<|im", "_end|>", "</", "s>", "### Response:", "User:", "\u2581"),
    *("é", "e\u0301", "日本語", "😀", "👩‍👩‍👧", "\ufeff", "\x00", "\x85", "ſ", "ﬁ", "\U0010ffff"),
    *(
        "48",
        "2026",
        "'s",
        "I'LL",
        "Hello",
        " damaged",
        ".",
        "...",
        "{",
        '{"deadline_hours": ',
        "    return x",
    ),
]

TEXT = st.one_of(
    st.lists(st.sampled_from(_AWKWARD), max_size=6).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)


@st.composite
def chats(draw: st.DrawFn, *, answers: st.SearchStrategy[str] = TEXT) -> list[dict[str, str]]:
    """Completed chats: perhaps a system message, then one to three pairs of user and assistant turns."""
    messages = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXT)})
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXT)})
        messages.append({"role": "assistant", "content": draw(answers)})
    return messages
