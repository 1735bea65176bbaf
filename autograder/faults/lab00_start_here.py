"""Lab 00: mistakes of counting who spoke."""

from collections import Counter, defaultdict

from autograder.faults.registry import alternative, fault

Chat = list[dict[str, str]]
ROLES = ("system", "user", "assistant")


@fault(
    "counts.seen_once",
    exercise="speaker_counts",
    title="Every role is counted once, however often it wrote",
    symptom="A chat of two questions and one answer looks finished.",
    first_check="Count a chat in which the customer writes twice.",
    consequence="Unanswered questions pass as finished chats, and a model learns to leave customers without an answer.",
    citation="Real dialogues often end with the customer: 149 of 200 in tau-bench, "
    "https://github.com/sierra-research/tau-bench",
)
def _(messages: Chat) -> dict[str, int]:
    return {message["role"]: 1 for message in messages}


@fault(
    "counts.zeros",
    exercise="speaker_counts",
    title="Roles that wrote nothing are counted as 0",
    symptom="An empty chat gives three entries instead of none.",
    first_check="Count an empty chat.",
    consequence="Code that asks whether a role is in the result finds one that never spoke.",
    citation="Seen here: a counter that starts with all known roles",
)
def _(messages: Chat) -> dict[str, int]:
    return {**dict.fromkeys(ROLES, 0), **Counter(m["role"] for m in messages)}


@fault(
    "counts.known_roles_only",
    exercise="speaker_counts",
    title="Roles other than system, user and assistant are left out",
    symptom="The counts add up to fewer messages than the chat has.",
    first_check="Compare the sum of the counts with the number of messages.",
    consequence="Rows with another role look clean, and a template that drops unknown roles trains on nothing.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/issues/752",
)
def _(messages: Chat) -> dict[str, int]:
    return dict(Counter(m["role"] for m in messages if m["role"] in ROLES))


@alternative("speaker_counts", style="Counter")
def _(messages: Chat) -> dict[str, int]:
    return dict(Counter(message["role"] for message in messages))


@alternative("speaker_counts", style="defaultdict")
def _(messages: Chat) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for message in messages:
        counts[message["role"]] += 1
    return counts


@alternative("speaker_counts", style="set and list.count")
def _(messages: Chat) -> dict[str, int]:
    roles = [message["role"] for message in messages]
    return {role: roles.count(role) for role in set(roles)}
