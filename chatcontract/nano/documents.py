"""The kinds of document in the corpus, from help articles to forum threads.

None is a chat: a customer's post is followed by further posts, and an agent never answers one. Numbers,
units and documents are drawn independently of everything else and come back later in the same text, so the
only way to predict the second mention is to copy the first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from chatcontract.nano import lexicon as words
from chatcontract.nano.cases import HELD_OUT_TOPICS
from chatcontract.nano.clauses import clause, restatement
from chatcontract.nano.facts import UNITS, Fact, capitalised, document_key, draw_period_and_document, period

_NEVER_IN_CORPUS = frozenset(topic.name for topic in HELD_OUT_TOPICS)
# Only the corpus has these; they keep the last word of a period from being one of five.
_MORE_UNITS = (*UNITS, "minute", "year", "working day", "calendar day", "evening", "season", "shift")
_ARTICLES = ("the", "a", "the", "")


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith(("ch", "sh", "s", "x")) else f"{noun}s"


def topic(rng: random.Random) -> str:
    """A policy topic that no evaluation case uses."""
    while True:
        shape = rng.random()
        if shape < 0.35:
            name = f"{rng.choice(words.CONDITIONS)} {rng.choice(words.GROUPS)}"
        elif shape < 0.65:
            name = f"{rng.choice(words.CONDITIONS)} {rng.choice(words.ITEMS)}"
        elif shape < 0.8:
            name = f"{rng.choice(words.ITEMS)} {rng.choice(words.DOCUMENT_NOUNS)}"
        else:
            name = rng.choice(words.SUBJECTS)
        if name not in _NEVER_IN_CORPUS:
            return name


def document_phrase(rng: random.Random) -> str:
    """A paper a customer may have to send, with its article."""
    if rng.random() < 0.3:
        return rng.choice(words.PLAIN_DOCUMENTS)
    name = f"{rng.choice(words.DOCUMENT_QUALIFIERS)} {rng.choice(words.DOCUMENT_NOUNS)}"
    article = rng.choice(_ARTICLES)
    if not article:
        return _plural(name)
    return _a(name) if article == "a" else f"the {name}"


def some_period(rng: random.Random) -> str:
    """A number from 1 to 99 with a unit."""
    return period(rng.randint(1, 99), rng.choice(_MORE_UNITS))


def fact(rng: random.Random) -> Fact:
    """A fact outside the held-out triples, every part drawn on its own."""
    number, unit, document = draw_period_and_document(
        rng, tuple(document_phrase(rng) for _ in range(3)), held_out=False
    )
    return Fact(
        topic=topic(rng),
        action=f"{rng.choice(words.ACTION_VERBS)} {rng.choice(words.ACTION_OBJECTS)}",
        number=number,
        unit=unit,
        anchor=rng.choice(words.ANCHORS),
        attach=rng.choice(words.ATTACH_VERBS),
        document=document,
    )


_FILLER = (
    "The {team} reads every note and keeps the file.",
    "Most cases about {items} are simple.",
    "The {item} stays with the {team} until the case is closed.",
    "Use only the supplied label and keep the {item} dry.",
    "The supplied evidence is kept with the case by the {team}.",
    "A {team} in {place} handles this part of the shop.",
    "Please use one box for each {item}.",
    "This page is for customers in {place} and nearby.",
    "The user of the {item} does not have to be the buyer.",
    "The system sends a mail when the {team} has looked at it.",
    "Ask a shop assistant in {place} if the {item} is too heavy to carry.",
    "The {colour} {item} and the {colour2} {item} count as the same product.",
    "Nothing changes for {items} that were sold in {place}.",
    "{name} from the {team} wrote this page.",
)


def filler(rng: random.Random) -> str:
    """A sentence without facts."""
    return rng.choice(_FILLER).format(
        team=rng.choice(words.TEAMS),
        item=(item := rng.choice(words.ITEMS)),
        items=_plural(item),
        place=rng.choice(words.PLACES),
        colour=rng.choice(words.COLOURS),
        colour2=rng.choice(words.COLOURS),
        name=rng.choice(words.NAMES),
    )


def _fillers(rng: random.Random, low: int, high: int) -> str:
    return " ".join(filler(rng) for _ in range(rng.randint(low, high)))


def article(rng: random.Random) -> str:
    """A help article: the clause, some talk, the clause again in other words."""
    f = fact(rng)
    heading = rng.choice(
        ("{t}", "Help: {t}", "{t}\nHelp centre", "Policy evidence\n{t}", "# {t}", "Evidence: {c}")
    )
    parts = [heading.format(t=capitalised(f.topic), c=clause(rng, f))]
    if rng.random() < 0.4:
        parts.append(_fillers(rng, 1, 2))
    parts.append(clause(rng, f))
    if rng.random() < 0.6:
        parts.append(_fillers(rng, 1, 3))
    parts.extend(restatement(rng, f) for _ in range(rng.randint(1, 4)))
    glue = rng.choice(("\n", "\n\n", " "))
    return parts[0] + "\n" + glue.join(parts[1:])


def clause_list(rng: random.Random) -> str:
    """Several clauses and an index of them: a look-up by topic, not only by position."""
    facts = [fact(rng) for _ in range(rng.randint(2, 4))]
    marks = rng.choice(("- {}", "* {}", "Rule: {}", "{}", "Evidence: {}"))
    lines = [
        rng.choice(("Policy overview", "House rules", "ShopFlow policies", "Policy evidence, all clauses"))
    ]
    lines += [marks.format(clause(rng, f)) for f in facts]
    again = list(facts)
    rng.shuffle(again)
    lines.append(rng.choice(("Index", "Overview", "At a glance", "Summary")))
    style = rng.randrange(4)
    for f in again:
        if style == 0:
            lines.append(f"{capitalised(f.topic)}: {f.period}")
        elif style == 1:
            lines.append(f"{capitalised(f.topic)}: {f.document}")
        elif style == 2:
            lines.append(f"{capitalised(f.topic)}: {f.period}, {f.document}")
        else:
            lines.append(f"{capitalised(f.topic)}. {restatement(rng, f)}")
    return "\n".join(lines)


def ticket_log(rng: random.Random) -> str:
    """An internal log of a case; it quotes the clause and ends with a note that restates it."""
    f = fact(rng)
    name, team = rng.choice(words.NAMES), rng.choice(words.TEAMS)
    lines = [
        rng.choice(("Ticket opened", "Case log", "Internal log", "Support log")) + f": {f.topic}",
        f"Customer: {name}, {rng.choice(words.PLACES)}",
        f"{rng.choice(('Rule', 'Clause', 'Evidence', 'Policy'))}: {clause(rng, f)}",
    ]
    steps = (
        f"Sent to the {team}.",
        f"{name} called the {rng.choice(words.TEAMS)}.",
        f"Waited {some_period(rng)} for the {rng.choice(words.TEAMS)}.",
        f"The {rng.choice(words.ITEMS)} was checked in {rng.choice(words.PLACES)}.",
        filler(rng),
    )
    lines += rng.sample(steps, rng.randint(0, 3))
    lines += [
        rng.choice(("Note: {}", "Closing note: {}", "Memo: {}", "Step: {}", "Told {n}: {}", "{}")).format(
            restatement(rng, f), n=name
        )
        for _ in range(rng.randint(1, 3))
    ]
    lines.append(rng.choice(("Case closed.", f"Closed by the {team}.", "End of log.")))
    return "\n".join(lines)


def product_page(rng: random.Random) -> str:
    """A product with its figures in a table and again in the text."""
    item, material = rng.choice(words.ITEMS), rng.choice(words.MATERIALS)
    colour, quality = rng.choice(words.COLOURS), rng.sample(words.QUALITIES, 2)
    cover, delivery, paper = some_period(rng), some_period(rng), document_phrase(rng)
    weight, price = rng.randint(1, 99), rng.randint(1, 99)
    table = [
        f"Colour: {colour}",
        f"Material: {material}",
        f"Warranty: {cover}",
        f"Delivery: {delivery}",
        f"Weight: {weight} kg",
        f"Price: {price} euros",
        f"In the box: {item}, {paper}",
    ]
    rng.shuffle(table)
    text = [
        f"This {quality[0]} {colour} {item} is made of {material}.",
        f"It is {quality[1]} and weighs {weight} kg.",
        f"The warranty lasts {cover}.",
        f"Keep {paper} for the warranty of {cover}.",
        f"It ships in {delivery}.",
        f"It costs {price} euros and arrives after {delivery}.",
        f"You pay {price} euros, and {paper} comes with the {item}.",
    ]
    rng.shuffle(text)
    head = f"{capitalised(quality[0])} {item}"
    body, prose = "\n".join(table[: rng.randint(3, 7)]), " ".join(text[: rng.randint(2, 5)])
    return f"{head}\n{body}\n\n{prose}" if rng.random() < 0.7 else f"{head}\n{prose}\n\n{body}"


_PROSE = (
    "{n} bought {ai} in {p} and carried it to the {r}.",
    "After {t} the {i} was still in the {r}.",
    "{n} and {m} had waited {t} for the {i}.",
    "It took {t}, said {n}, and then the {q} {i} worked again.",
    "{m} looked for {d} in the {r} and found it under the {i}.",
    "The letter said {t}, so {n} put {d} into a {c} box.",
    "In {p} the weather was {q}, and {m} sat in the {r}.",
    "{n} lives in {p} with {m} and a {c} {i}.",
    "They cleaned the {r} and moved the {i} to the wall.",
    "{m} asked {n} to bring {d} to {p}.",
    "The table was scratched, the coat was torn, and {n} did not mind.",
    "By then {t} had passed.",
    "{n} wrote {t} on a note and left it on the {i}.",
    "The old {i} was {q} and made of {w}.",
    "Every evening {m} walks from the {r} to the {s}.",
)


def prose(rng: random.Random) -> str:
    """Everyday prose; its names, places, periods and things stay the same through the text."""
    item, name, other = rng.choice(words.ITEMS), *rng.sample(words.NAMES, 2)
    slots = {
        "n": name,
        "m": other,
        "i": item,
        "ai": _a(item),
        "p": rng.choice(words.PLACES),
        "r": rng.choice(words.ROOMS),
        "s": rng.choice(words.ROOMS),
        "t": some_period(rng),
        "d": document_phrase(rng),
        "c": rng.choice(words.COLOURS),
        "q": rng.choice(words.QUALITIES),
        "w": rng.choice(words.MATERIALS),
    }
    return capitalised(" ".join(t.format(**slots) for t in rng.sample(_PROSE, rng.randint(4, 10))))


def _list_entry(rng: random.Random) -> str:
    kind = rng.randrange(5)
    if kind == 0:
        return some_period(rng)
    if kind == 1:
        return document_key(document_phrase(rng))
    if kind == 2:
        return f"{rng.randint(1, 99)} {rng.choice(words.COLOURS)} {_plural(rng.choice(words.ITEMS))}"
    if kind == 3:
        return f"{rng.choice(words.ACTION_VERBS)} {rng.choice(words.ACTION_OBJECTS)}"
    return f"{rng.choice(words.NAMES)} {rng.choice(words.PLACES)} {rng.randint(1, 99)}"


def checked_list(rng: random.Random) -> str:
    """A packing list and the list as it was checked: the same entries, whole or in part."""
    entries = [_list_entry(rng) for _ in range(rng.randint(4, 12))]
    glue = rng.choice(("\n", ", ", "; "))
    first, second = rng.choice(
        (
            ("Packed", "Checked"),
            ("List", "Copy"),
            ("Sent", "Received"),
            ("Morning", "Evening"),
            ("Plan", "Done"),
        )
    )
    again = entries[rng.randrange(len(entries) // 2) :]
    return f"{first}:\n{glue.join(entries)}\n{second}:\n{glue.join(again)}"


# What customers post: never a number, a period or a document of the pinned clause.
_QUESTIONS = (
    "My {i} arrived damaged. What should I do?",
    "What do I do about {t}?",
    "How do I {a}?",
    "Can I {a} if the {i} is from {p}?",
    "Does this also count for {ai}?",
    "Does anyone know how {t} works?",
    "I moved to {p}. Where does the {i} go now?",
    "Who do I ask about {t}?",
    "The {team} did not call me back. What now?",
    "I ordered the {c} {i} and got the {c2} one. What can I do?",
    "Is the {team} open today?",
    "I cannot find the page for {t}. Where is it?",
    "My {i} stopped working. What now?",
    "What happens if nobody writes back?",
    "Same here with {ai}. Did you find out?",
    "I have the same problem. Any news?",
    "Did anyone get a reply from the {team}?",
    "Is it the same in {p}?",
    "And what if the {i} was a gift?",
    "Can someone tell me where to start with {t}?",
    "I forgot to {a}. Is it too late?",
    "Does the shop in {p} take {ai} back?",
    "Why does the site not let me {a}?",
    "Who pays for the way back of the {i}?",
    "How do I get a new {i}?",
    "Where do I find the form for this?",
    "Can my brother {a} for me?",
    "I am new here. Is this the right place for {t}?",
    "The {i} came without a lid. What should I do?",
    "What do you need for {t}?",
)
_LEAD_INS = (
    "Hello all.",
    "I bought {ai} in {p}.",
    "Thanks for the thread.",
    "I read the rules twice.",
    "My {i} is {c}.",
    "I already called the {team}.",
    "Not sure this is the right place.",
    "The {i} is still in the box.",
    "I have waited for a long time.",
    "Following this.",
)


def _post(rng: random.Random, subject: str) -> str:
    slots = {
        "t": subject if rng.random() < 0.5 else topic(rng),
        "i": (item := rng.choice(words.ITEMS)),
        "ai": _a(item),
        "a": f"{rng.choice(words.ACTION_VERBS)} {rng.choice(words.ACTION_OBJECTS)}",
        "p": rng.choice(words.PLACES),
        "c": rng.choice(words.COLOURS),
        "c2": rng.choice(words.COLOURS),
        "team": rng.choice(words.TEAMS),
    }
    shape = rng.random()
    sentences = [rng.choice(_QUESTIONS)]
    if shape < 0.35:
        sentences.insert(0, rng.choice(_LEAD_INS))
    elif shape < 0.5:
        sentences.append(rng.choice(_QUESTIONS))
    return " ".join(sentences).format(**slots)


def _posts(rng: random.Random, subject: str, count: int) -> str:
    """`count` posts under one another; nobody answers."""
    style = rng.randrange(6)
    lines = []
    for _ in range(count):
        post, who = _post(rng, subject), rng.choice(words.NAMES)
        if style == 0:
            lines.append(f"{who.lower()}\n{post}")
        elif style == 1:
            lines.append(f"{who}: {post}")
        elif style == 2:
            lines.append(f"{rng.choice(('user', 'guest', 'customer', 'buyer', 'member'))}\n{post}")
        elif style == 3:
            lines.append(f"> {post}")
        else:
            lines.append(post)
    return rng.choice(("\n", "\n\n") if style else ("\n",)).join(lines)


def thread(rng: random.Random) -> str:
    """A forum thread: sometimes a pinned clause, then a question and further questions."""
    f = fact(rng)
    lines = []
    if rng.random() < 0.5:
        lines.append(rng.choice(("Forum: {}", "Thread: {}", "{}", "Board / {}")).format(f.topic))
    if rng.random() < 0.65:
        lines.append(rng.choice(("Pinned: {}", "Evidence: {}", "{}", "Rule: {}")).format(clause(rng, f)))
        if rng.random() < 0.2:
            lines.append(_fillers(rng, 1, 2))
    lines.append(_posts(rng, f.topic, rng.randint(3, 9)))
    return rng.choice(("\n", "\n\n")).join(lines)


CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>")
_FRAGMENTS = (
    "export part",
    "orders",
    "retry",
    "desk assistant",
    "list of users",
    "check of the system",
    "line lost",
    "policy",
    "mail",
    "queue",
    "old thread",
)
# Without a start token before them: the corpus never shows the beginning of a ChatML turn.
_ROLE_WORDS = ("assistant", "user", "system")


def _sprinkled(rng: random.Random, text: str, share: float) -> str:
    """The text with control tokens between words, either token with equal chance and in no order."""
    pieces = []
    for piece in text.split(" "):
        pieces.append(piece)
        if rng.random() < share:
            pieces.append(rng.choice(CONTROL_TOKENS))
    return " ".join(pieces)


def _damaged(rng: random.Random, line: str) -> str:
    before, after = (rng.choice(("", *CONTROL_TOKENS)) for _ in range(2))
    return before + _sprinkled(rng, line, 0.12) + after


def garbled_thread(rng: random.Random) -> str:
    """A thread whose first lines were damaged in an export: control tokens anywhere, none in the rest."""
    f = fact(rng)
    head = [rng.choice(_FRAGMENTS) for _ in range(rng.randint(0, 2))]
    if rng.random() < 0.8:
        head.append(rng.choice(("Evidence: {}", "Pinned: {}", "{}")).format(clause(rng, f)))
    rng.shuffle(head)
    head.append(_post(rng, f.topic))
    if rng.random() < 0.4:
        head.append(rng.choice(_FRAGMENTS))
    lines = [_damaged(rng, line) for line in head]
    for _ in range(rng.randint(0, 2)):
        lines.insert(rng.randint(0, len(lines)), rng.choice(_ROLE_WORDS))
    return "\n".join(lines) + "\n" + _posts(rng, f.topic, rng.randint(3, 8))


def line_test(rng: random.Random) -> str:
    """A line test that sends control tokens between random words and reads the same sequence back."""
    sent = []
    for _ in range(rng.randint(6, 16)):
        kind = rng.random()
        if kind < 0.5:
            sent.append(rng.choice(CONTROL_TOKENS))
        elif kind < 0.75:
            sent.append(rng.choice(words.ITEMS))
        else:
            sent.append(str(rng.randint(1, 99)))
    glue = rng.choice((" ", "\n", "", ", "))
    first, second = rng.choice((("sent", "got"), ("out", "in"), ("write", "read"), ("left", "right")))
    return f"Line test\n{first}: {glue.join(sent)}\n{second}: {glue.join(sent)}\nEnd of line test"


# Share of documents of each kind.
KINDS: Sequence[tuple[Callable[[random.Random], str], float]] = (
    (article, 0.22),
    (clause_list, 0.10),
    (ticket_log, 0.13),
    (product_page, 0.06),
    (prose, 0.06),
    (checked_list, 0.08),
    (thread, 0.25),
    (garbled_thread, 0.07),
    (line_test, 0.03),
)
