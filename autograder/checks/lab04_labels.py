"""Lab 04: cases for labels from tokens and from offsets, the masked mean, and the supervised budget."""

import random
from typing import Any

from autograder.checks.exercise import Case, Exercise

LAB = "04_labels"
START, END, NEWLINE, PAD = 1, 2, 6, 0
HEADER = [START, 8, 9, NEWLINE]
_TOY = (
    "<system> Use supplied policy evidence <eot> <user> Damaged electronics arrived <eot> "
    "<assistant> Report within 48 hours with photos <eot>"
)
WORDS = _TOY.split()


def _turn(role: int, content: list[int], closed: bool = True) -> list[int]:
    """A turn as ChatML writes it; role 8 is the assistant's, and its header has a second piece."""
    opening = HEADER if role == 8 else [START, role, NEWLINE]
    return [*opening, *content, *([END, NEWLINE] if closed else [])]


def _words(rng: random.Random, most: int = 6) -> list[int]:
    return [rng.randrange(20, 90) for _ in range(rng.randint(1, most))]


# assistant_labels

ONE = _turn(3, [30, 31]) + _turn(5, [32, 33]) + _turn(8, [40, 41, 42])
TWO = ONE + _turn(5, [34]) + _turn(8, [43, 44])


def _label(tokens: list[Any], header: list[Any] | None = None, end: Any = END) -> dict[str, Any]:
    return {"tokens": tokens, "header": HEADER if header is None else header, "end": end}


def _public_labels() -> tuple[Case, ...]:
    return (
        Case(
            "the toy, in words",
            _label(WORDS, ["<assistant>"], "<eot>"),
            "one turn",
            "Whatever is learned besides the answer, the model writes by itself later.",
        ),
        Case(
            "one turn, in ids",
            _label(ONE),
            "one turn",
            "The header is the server's, the end of turn is the model's.",
        ),
        Case(
            "two turns",
            _label(TWO),
            "several turns",
            "A missing turn is paid for and not used; a question that is learned takes gradient from answers.",
        ),
        Case(
            "cut off in the answer",
            _label(ONE[:-3]),
            "boundaries",
            "A made-up end teaches the model to stop in the middle of a sentence.",
        ),
        Case(
            "the header's first tokens alone open nothing",
            _label(_turn(5, [8, 9, 31]) + _turn(8, [40])),
            "boundaries",
            "The customer's words are learned as if the assistant had said them.",
        ),
        Case("no assistant turn", _label(_turn(5, [30, 31])), "boundaries"),
        Case("an empty header", _label(ONE, []), "refusals", says=("header",)),
    )


def _private_labels(rng: random.Random) -> list[Case]:
    cases = [
        Case("nothing", _label([]), "boundaries"),
        Case("only the header", _label(HEADER), "boundaries"),
        Case("an empty answer", _label(_turn(5, [30]) + _turn(8, [])), "boundaries"),
        Case("half a header at the end", _label([*_turn(5, [30]), *HEADER[:2]]), "boundaries"),
        Case("a header in an answer", _label(_turn(8, [40, *HEADER, 41]) + _turn(5, [30])), "boundaries"),
        Case("empty header", _label(_turn(8, [40]), []), "refusals", says=("header",)),
        Case("empty header, no tokens", _label([], []), "refusals", says=("header",)),
    ]
    for turns in (1, 1, 2, 3, 4):
        tokens = _turn(3, _words(rng)) if rng.random() < 0.5 else []
        for _ in range(turns):
            tokens = tokens + _turn(5, _words(rng)) + _turn(8, _words(rng))
        name = "one turn" if turns == 1 else "several turns"
        cases.append(Case(name, _label(tokens), name))
        cut = len(tokens) - rng.randint(2, 3)
        cases.append(Case("cut off", _label(tokens[:cut]), "boundaries"))
        typed = tokens[:-2] + _turn(5, [8, 9, NEWLINE, *_words(rng)])
        cases.append(Case("role words in a question", _label(typed), "boundaries"))
    words = rng.sample(["Scan", "the", "label", "within", "7", "days"], 4)
    spoken = ["<user>", "Hi", "<eot>", "<assistant>", *words, "<eot>"]
    cases.append(Case("words", _label(spoken, ["<assistant>"], "<eot>"), "one turn"))
    cases.append(Case("words, twice", _label(spoken * 2, ["<assistant>"], "<eot>"), "several turns"))
    return cases


# labels_from_offsets


def _offset(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> dict[str, Any]:
    return {"ids": ids, "offsets": offsets, "spans": spans}


SIX = [[0, 2], [2, 4], [4, 6], [6, 8], [8, 10], [10, 12]]
SIX_IDS = [50, 51, 52, 53, 54, 55]


def _public_offsets() -> tuple[Case, ...]:
    return (
        Case(
            "the span begins and ends between tokens",
            _offset(SIX_IDS, SIX, [[4, 8]]),
            "plain spans",
            "Everything else of the mask rests on this.",
        ),
        Case(
            "a token straddles the beginning",
            _offset(SIX_IDS, SIX, [[5, 10]]),
            "straddling tokens",
            "Without it the model never learns how an answer begins.",
        ),
        Case(
            "a token straddles the end",
            _offset(SIX_IDS, SIX, [[4, 9]]),
            "straddling tokens",
            "The answer's last characters are not learned.",
        ),
        Case(
            "four pieces of one character",
            _offset([60, 61, 62, 63, 64], [[0, 1], [1, 2], [1, 2], [1, 2], [1, 2]], [[1, 2]]),
            "pieces and empty tokens",
            "A model that learns some pieces of a character writes broken ones.",
        ),
        Case(
            "tokens without characters",
            _offset([1, 50, 51, 0, 0], [[0, 0], [0, 2], [2, 4], [0, 0], [3, 3]], [[0, 4]]),
            "pieces and empty tokens",
            "Padding is learned, and the model writes it.",
        ),
        Case(
            "two answers, the later one first",
            _offset(SIX_IDS, SIX, [[8, 10], [2, 4]]),
            "several spans",
            "The customer's text between two answers is learned, or one of the answers is not.",
        ),
        Case(
            "the first span holds no token",
            _offset(SIX_IDS[2:], SIX[2:], [[0, 4], [6, 8]]),
            "several spans",
            "After a cut on the left, complete answers are thrown away.",
        ),
        Case("an empty span inside a token", _offset(SIX_IDS, SIX, [[5, 5]]), "plain spans"),
        Case("an offset is missing", _offset(SIX_IDS, SIX[:5], [[0, 2]]), "refusals", says=("offsets",)),
        Case("a span runs backwards", _offset(SIX_IDS, SIX, [[8, 4]]), "refusals", says=("span",)),
    )


def _tokens(rng: random.Random, number: int) -> tuple[list[int], list[list[int]]]:
    """Tokens of one to four characters, some in pieces, after a token without characters."""
    ids, offsets, position = [1], [[0, 0]], 0
    for _ in range(number):
        size = rng.randint(1, 4)
        pieces = rng.randint(2, 4) if size == 1 and rng.random() < 0.4 else 1
        for _ in range(pieces):
            ids.append(rng.randrange(20, 90))
            offsets.append([position, position + size])
        position += size
    return ids, offsets


def _private_offsets(rng: random.Random) -> list[Case]:
    cases = [
        Case("nothing", _offset([], [], []), "plain spans"),
        Case("no spans", _offset(SIX_IDS, SIX, []), "plain spans"),
        Case("everything", _offset(SIX_IDS, SIX, [[0, 12]]), "plain spans"),
        Case("empty span", _offset(SIX_IDS, SIX, [[3, 3]]), "plain spans"),
        Case("beyond the text", _offset(SIX_IDS, SIX, [[10, 40]]), "plain spans"),
        Case("spans touch", _offset(SIX_IDS, SIX, [[2, 4], [4, 6]]), "several spans"),
        Case("spans overlap", _offset(SIX_IDS, SIX, [[2, 7], [5, 9]]), "several spans"),
        Case("inside one token", _offset([50], [[0, 9]], [[3, 5]]), "straddling tokens"),
        Case("only padding", _offset([0, 0], [[0, 0], [0, 0]], [[0, 4]]), "pieces and empty tokens"),
        Case(
            "empty token in the middle",
            _offset([50, 0, 51], [[0, 2], [2, 2], [2, 4]], [[0, 4]]),
            "pieces and empty tokens",
        ),
        Case("more offsets", _offset([50], SIX[:2], []), "refusals", says=("offsets",)),
        Case("backwards", _offset(SIX_IDS, SIX, [[0, 2], [9, 8]]), "refusals", says=("span",)),
    ]
    for _ in range(4):
        ids, offsets = _tokens(rng, rng.randint(6, 12))
        length = offsets[-1][1]
        late = next(i for i, (start, _) in enumerate(offsets) if start >= 3)
        cuts = sorted(rng.sample(range(length + 1), 4))
        one, two = [cuts[0], cuts[1]], [cuts[2], cuts[3]]
        starts = sorted({start for start, _ in offsets})
        edge = sorted(rng.sample([*starts, length], 2))
        cases += [
            Case("between tokens", _offset(ids, offsets, [edge]), "plain spans"),
            Case("anywhere", _offset(ids, offsets, [[cuts[0], cuts[3]]]), "straddling tokens"),
            Case("several", _offset(ids, offsets, rng.sample([one, two], 2)), "several spans"),
            Case(
                "cut on the left",
                _offset(ids[late:], offsets[late:], [[0, 2], [length - 1, length]]),
                "several spans",
            ),
            Case(
                "pieces",
                _offset(
                    [*ids, 91, 92, 93, 0], [*offsets, *[[length, length + 1]] * 3, [0, 0]], [[0, length + 1]]
                ),
                "pieces and empty tokens",
            ),
        ]
    return cases


# masked_mean_loss

SURE, UNSURE, WRONG = [0.0, 3.0], [0.0, 0.0], [2.0, -1.0]


def _loss(
    logits: list[list[list[float]]], labels: list[list[int]], num_items: int | None = None
) -> dict[str, Any]:
    given: dict[str, Any] = {"logits": logits, "labels": labels}
    return given if num_items is None else given | {"num_items": num_items}


def _public_loss() -> tuple[Case, ...]:
    return (
        Case(
            "one row, each position another cost",
            _loss([[SURE, UNSURE, WRONG, [1.0, 0.5]]], [[-100, 1, -100, 1]]),
            "shift and mask",
            "Compared without a shift the model learns to copy; shifted twice it learns to skip a word.",
        ),
        Case(
            "a label on the first token",
            _loss([[SURE, UNSURE, SURE]], [[0, 1, 0]]),
            "denominator",
            "Nothing predicts the first token: counted, it makes every reported loss too small.",
        ),
        Case(
            "a short row and a long one",
            _loss([[WRONG] * 2, [SURE] * 5], [[-100, 1], [-100, 1, 1, 1, 1]]),
            "denominator",
            "With a mean of means a token of a short answer pulls harder than one of a long answer.",
        ),
        Case(
            "a part of a larger batch",
            _loss([[SURE, UNSURE]], [[-100, 1]], 42),
            "denominator",
            "Under gradient accumulation every micro-batch must be divided by the tokens of all of them.",
        ),
        Case(
            "no supervised token",
            _loss([[SURE, UNSURE]], [[-100, -100]]),
            "corners",
            "0/0 is not a number, and one step with it destroys every weight.",
        ),
        Case(
            "large logits",
            _loss([[[1000.0, 1001.0], [0.0, 0.0]]], [[-100, 1]]),
            "corners",
            "exp(1000) is an overflow: the run ends, or the loss is infinite.",
        ),
        Case("labels are missing", _loss([[SURE, SURE]], [[-100]]), "refusals", says=("labels",)),
    )


def _row(
    rng: random.Random, length: int, vocabulary: int, share: float
) -> tuple[list[list[float]], list[int]]:
    logits = [[round(rng.uniform(-4, 4), 3) for _ in range(vocabulary)] for _ in range(length)]
    return logits, [rng.randrange(vocabulary) if rng.random() < share else -100 for _ in range(length)]


def _private_loss(rng: random.Random) -> list[Case]:
    cases = [
        Case("no rows", _loss([], []), "corners"),
        Case("one position", _loss([[UNSURE]], [[1]]), "corners"),
        Case("nothing supervised, with a number", _loss([[SURE, SURE]], [[1, -100]], 7), "corners"),
        Case("very negative", _loss([[[-2000.0, -2001.0], UNSURE]], [[-100, 1]]), "corners"),
        Case("far apart", _loss([[[0.0, 800.0], UNSURE]], [[-100, 0]]), "corners"),
        Case("too many labels", _loss([[SURE]], [[-100, 1]]), "refusals", says=("labels",)),
        Case("second row", _loss([[SURE], [SURE, SURE]], [[0], [1]]), "refusals", says=("labels",)),
    ]
    for _ in range(4):
        vocabulary = rng.randint(2, 6)
        plain = _row(rng, rng.randint(5, 9), vocabulary, 0.6)
        plain[1][1:3] = [0, -100]
        rows = [_row(rng, length, vocabulary, 0.7) for length in (2, 9, 3, 6)]
        for _, marks in rows:
            marks[0], marks[1] = rng.randrange(vocabulary), rng.randrange(vocabulary)
        logits, labels = [row[0] for row in rows], [row[1] for row in rows]
        cases += [
            Case("a row", _loss([plain[0]], [plain[1]]), "shift and mask"),
            Case("a batch", _loss(logits, labels), "denominator"),
            Case("a micro-batch", _loss(logits[:1], labels[:1], rng.randint(20, 60)), "denominator"),
        ]
    return cases


# supervised_budget


def _kept(labels: list[int], left: int = 0, right: int = 0) -> dict[str, list[int]]:
    mask = [0] * left + [1] * len(labels) + [0] * right
    return {"labels": [-100] * left + labels + [-100] * right, "attention_mask": mask}


TOY_ROW = _kept([-100] * 9 + [30, 31, 32, 33, END])
BARE = _kept([-100] * 6)


def _public_budget() -> tuple[Case, ...]:
    return (
        Case(
            "the toy of 14 tokens", {"rows": [TOY_ROW]}, "targets", "13 targets, of which 5 are supervised."
        ),
        Case(
            "padded on both sides",
            {"rows": [_kept([-100, -100, 40, END], right=3), _kept([-100, 41, 42, END], left=2)]},
            "padding",
            "Padding counted as targets makes the share look smaller than it is.",
        ),
        Case(
            "padding with labels",
            {"rows": [{"labels": [-100, 40, END, END, END], "attention_mask": [1, 1, 1, 0, 0]}]},
            "padding",
            "Where padding is the end token and labelled, hundreds of ends are learned.",
        ),
        Case(
            "token 0 is a token",
            {"rows": [_kept([-100, 0, 0, END])]},
            "targets",
            "Taken for 'nothing', the token with the id 0 is never counted.",
        ),
        Case(
            "a label on the first token only",
            {"rows": [TOY_ROW, _kept([40, -100, -100])]},
            "empty rows",
            "Nothing predicts the first token: the row teaches nothing and costs a step.",
        ),
        Case(
            "rows of different lengths",
            {"rows": [_kept([-100, 40]), _kept([-100] * 10 + [41]), BARE]},
            "empty rows",
            "A mean of the rows' shares hides that long rows pay for almost nothing.",
        ),
        Case("no rows", {"rows": []}, "targets"),
        Case(
            "an attention value is missing",
            {"rows": [{"labels": [-100, 40], "attention_mask": [1]}]},
            "refusals",
            says=("attention",),
        ),
    )


def _private_budget(rng: random.Random) -> list[Case]:
    cases = [
        Case("one token", {"rows": [_kept([40])]}, "empty rows"),
        Case("an empty row", {"rows": [_kept([]), TOY_ROW]}, "empty rows"),
        Case("only padding", {"rows": [_kept([], left=4)]}, "empty rows"),
        Case("all empty", {"rows": [BARE, BARE]}, "empty rows"),
        Case("no rows", {"rows": []}, "targets"),
        Case(
            "short mask",
            {"rows": [TOY_ROW, {"labels": [1, 2, 3], "attention_mask": [1, 1]}]},
            "refusals",
            says=("attention",),
        ),
        Case("no mask", {"rows": [{"labels": [1], "attention_mask": []}]}, "refusals", says=("attention",)),
    ]
    for _ in range(4):
        rows = []
        for _ in range(rng.randint(3, 6)):
            answer = [rng.choice([0, 40, 41, 42]) for _ in range(rng.randint(0, 5))]
            first = [rng.choice([-100, 40])] if rng.random() < 0.5 else [-100]
            rows.append(first + [-100] * rng.randint(0, 8) + answer)
        width = max(map(len, rows))
        right = [_kept(row, right=width - len(row)) for row in rows]
        left = [_kept(row, left=width - len(row)) for row in rows]
        labelled = [
            {"labels": [END if not kept else one for one, kept in zip(*row.values(), strict=True)]}
            | {"attention_mask": row["attention_mask"]}
            for row in right
        ]
        cases += [
            Case("rows", {"rows": [_kept(row) for row in rows]}, "targets"),
            Case("padded right", {"rows": right}, "padding"),
            Case("padded left", {"rows": left}, "padding"),
            Case("padding labelled", {"rows": labelled}, "padding"),
            Case("with an empty one", {"rows": [_kept(rows[0]), BARE, _kept([40])]}, "empty rows"),
        ]
    return cases


EXERCISES = (
    Exercise(
        name="assistant_labels",
        lab=LAB,
        hints=(
            "When you stand at a token, what decides whether it is learned: the token itself, or what came "
            "before it? And which token of a turn is the last one that is learned?",
            "Compare a slice of the length of the header with the header. After a match, jump behind it; you "
            "are then inside a turn until you have copied an end.",
            "labels = -100 for every token; position = 0; while position is in the list: if the header starts "
            "here, move behind it, then copy tokens into labels until one of them is the end (copied as well) "
            "or the list is over; otherwise move on by one. An empty header is refused first.",
        ),
        properties={"one turn": 1, "several turns": 2, "boundaries": 2, "refusals": 1},
        public=_public_labels(),
        private=_private_labels,
    ),
    Exercise(
        name="labels_from_offsets",
        lab=LAB,
        hints=(
            "Draw a token and a span as two bars on a line. In how many ways can they have a character in "
            "common, and in how many none?",
            "Two half-open intervals overlap where the later start is before the earlier stop: max and min.",
            "refuse different lengths, refuse a span with stop < start; for each token: learned if for any "
            "span max(start, low) < min(stop, high); a token or span without characters fails that by itself.",
        ),
        properties={
            "plain spans": 1,
            "straddling tokens": 2,
            "pieces and empty tokens": 2,
            "several spans": 1,
            "refusals": 1,
        },
        public=_public_offsets(),
        private=_private_offsets,
    ),
    Exercise(
        name="masked_mean_loss",
        lab=LAB,
        hints=(
            "Which logits predict the label at position 3? And which label does nobody predict?",
            "Keep two numbers over all rows, the sum of the costs and the number of targets, and divide once "
            "at the end. The cost is log(sum of exp(logits)) minus the label's logit.",
            "total = targets = 0; for each row, after comparing lengths: for scores, label in zip(row[:-1], "
            "labels[1:]): skip -100; top = max(scores); total += top + log(sum(exp(s - top))) - scores[label]; "
            "targets += 1. No targets: 0.0. Otherwise divide by num_items, or by targets if it is None.",
        ),
        properties={"shift and mask": 2, "denominator": 2, "corners": 2, "refusals": 1},
        public=_public_loss(),
        private=_private_loss,
        tolerance=1e-4,
    ),
    Exercise(
        name="supervised_budget",
        lab=LAB,
        hints=(
            "What must be true of a position, and of the one before it, so that a model is asked to predict it?",
            "Go through the positions from 1 on; mask[t] and mask[t - 1] decide about a target, the label only "
            "about whether it is supervised.",
            "for each row: refuse different lengths; targets = the labels at t >= 1 where mask[t] and "
            "mask[t - 1]; count them, count those that are not -100; note the row if that count is 0. "
            "share = supervised / targets, 0.0 without targets.",
        ),
        properties={"targets": 1, "padding": 2, "empty rows": 1, "refusals": 1},
        public=_public_budget(),
        private=_private_budget,
    ),
)
