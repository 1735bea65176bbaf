"""Random chats for private cases: plain words, white space at the edges, other scripts, empty messages."""

import random

SYSTEM = "Use only the supplied policy evidence."
QUESTION = "My electronics arrived damaged. What should I do?"
ANSWER = "Report the damage within 48 hours and attach photos."

_WORDS = (
    "kettle",
    "lamp",
    "parcel",
    "photos",
    "receipt",
    "48 hours",
    "Größe",
    "décor",
    "注文",
    "день",
    "7 €",
)
_FRAMES = (
    "My {0} came with a {1}. What now?",
    "Where do I send the {0}?",
    "Attach the {0} and the {1}.",
    "{0}: {1}\n{0}",
    "def {0}():\n    return {1}",
)
_EDGES = ("", "", "", " ", "  ", "\n", "\t")


def text(rng: random.Random, *, edges: bool = True) -> str:
    """A content of a few words, now and then with white space around it that belongs to it."""
    body = rng.choice(_FRAMES).format(*rng.sample(_WORDS, 2))
    return rng.choice(_EDGES) + body + rng.choice(_EDGES) if edges else body


def chat(
    rng: random.Random, *, turns: int = 1, system: bool = True, answered: bool = True, edges: bool = True
) -> list[dict[str, str]]:
    """A chat with so many questions, each answered except perhaps the last one."""
    messages = [{"role": "system", "content": text(rng, edges=edges)}] if system else []
    for _ in range(turns):
        messages.append({"role": "user", "content": text(rng, edges=edges)})
        messages.append({"role": "assistant", "content": text(rng, edges=edges)})
    return messages if answered else messages[:-1]
