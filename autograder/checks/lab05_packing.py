"""Lab 05: cases of packing, position ids, isolation and boundary labels."""

import random
from typing import Any

from autograder.checks.exercise import Case, Exercise

IGNORE = -100


def _documents(lengths: list[int], window: int) -> list[int]:
    """Document number of every position; -1 behind the last document."""
    ids = [number for number, length in enumerate(lengths) for _ in range(length)]
    return ids + [-1] * (window - len(ids))


def _fitting(rng: random.Random, most: int = 4, longest: int = 5) -> tuple[list[int], int]:
    """Lengths of documents and a window that holds them, with or without room for padding."""
    lengths = [rng.randint(1, longest) for _ in range(rng.randint(1, most))]
    return lengths, sum(lengths) + rng.choice((0, 0, 1, 3))


def private_first_fit(rng: random.Random) -> list[Case]:
    """Rows of all sizes; every window size meets an exact fit, a row too long and a row without tokens."""
    cases = [Case("no rows", {"lengths": [], "window": rng.randint(4, 32)}, "utilisation")]
    for number in range(6):
        window = rng.randint(8, 40)
        lengths = [rng.randint(1, window) for _ in range(rng.randint(3, 12))]
        cases.append(Case(f"random rows {number}", {"lengths": lengths, "window": window}, "placement"))
    for number in range(4):
        window = rng.randint(8, 40)
        first = rng.randint(window // 2 + 1, window - 2)
        rows = [first, window - 1, window - first, 1, window]
        cases.append(
            Case(f"rows that fit exactly {number}", {"lengths": rows, "window": window}, "exact fit")
        )
    for number in range(3):
        window = rng.randint(8, 40)
        rows = [rng.randint(1, window) for _ in range(4)]
        cases.append(Case(f"utilisation {number}", {"lengths": rows, "window": window}, "utilisation"))
    for number, wrong in enumerate((1, 0, -1)):
        window, at = rng.randint(8, 24), rng.randint(5, 7)
        wrong = window * rng.randint(2, 4) if wrong == 1 else wrong
        while str(at) in f"{window} {wrong}":  # else a message that names only the length would pass
            at = rng.choice([5, 6, 7, 9])
        rows = [rng.randint(1, 4) for _ in range(10)]
        rows[at] = wrong
        cases.append(
            Case(
                f"a row that no window holds {number}",
                {"lengths": rows, "window": window},
                "refusal",
                says=(str(at),),
            )
        )
    window = rng.choice((8, 11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 23, 24))
    cases.append(
        Case("one token too long", {"lengths": [window + 1], "window": window}, "refusal", says=("0",))
    )
    return cases


def private_packed_position_ids(rng: random.Random) -> list[Case]:
    """Full and padded windows, documents of one token, windows that are too small."""
    cases = [
        Case("only padding", {"lengths": [], "window": rng.randint(2, 6)}, "padding"),
        Case("documents of one token", {"lengths": [1, 1, rng.randint(2, 4), 1], "window": 9}, "restart"),
        Case("one token of padding", {"lengths": [rng.randint(2, 5), 2], "window": 0}, "padding"),
    ]
    cases[2].arguments["window"] = sum(cases[2].arguments["lengths"]) + 1
    for number in range(7):
        lengths, window = _fitting(rng)
        part = "padding" if window > sum(lengths) else "restart"
        cases.append(Case(f"random window {number}", {"lengths": lengths, "window": window}, part))
    for number in range(2):
        lengths, _ = _fitting(rng)
        over = {"lengths": lengths, "window": sum(lengths) - 1}
        cases.append(Case(f"documents that do not fit {number}", over, "refusal", says=("window",)))
    cases.append(Case("a document of no tokens", {"lengths": [2, 0, 2], "window": 8}, "refusal"))
    return cases


def private_isolation_mask(rng: random.Random) -> list[Case]:
    """Masks of one to five documents, with and without padding."""
    cases = [
        Case("no tokens", {"document_ids": []}, "isolation"),
        Case("one token", {"document_ids": [rng.randint(0, 5)]}, "causality"),
        Case("one document", {"document_ids": [0] * rng.randint(3, 7)}, "causality"),
        Case("documents of one token", {"document_ids": [0, 1, 2, 3]}, "isolation"),
        Case("only padding", {"document_ids": [-1] * rng.randint(2, 4)}, "padding"),
    ]
    for number in range(8):
        lengths, window = _fitting(rng)
        part = "padding" if window > sum(lengths) else "isolation"
        ids = {"document_ids": _documents(lengths, window)}
        cases.append(Case(f"random window {number}", ids, part))
    shuffled = [7] * rng.randint(1, 3) + [2] * rng.randint(1, 3) + [5] * 2
    cases.append(Case("numbers out of order", {"document_ids": shuffled}, "isolation"))
    return cases


def _mask(ids: list[int], rng: random.Random, *, flips: int, future: bool) -> list[list[int]]:
    """A causal mask of separate documents with `flips` entries added at random, `future` ones too."""
    size = range(len(ids))
    mask = [[int(key <= query and ids[query] == ids[key]) for key in size] for query in size]
    for _ in range(flips):
        query, key = rng.choice(size), rng.choice(size)
        if future or key <= query:
            mask[query][key] = 1
    return mask


def private_cross_edges(rng: random.Random) -> list[Case]:
    """Tight masks, causal masks without blocks, masks with a few wrong entries, broken shapes."""
    cases = []
    for number in range(3):
        lengths, window = _fitting(rng)
        ids = _documents(lengths, window)
        tight = {"mask": _mask(ids, rng, flips=0, future=False), "document_ids": ids}
        cases.append(Case(f"separate documents {number}", tight, "edges"))
        causal = [[int(key <= query) for key in range(window)] for query in range(window)]
        cases.append(Case(f"causal only {number}", {"mask": causal, "document_ids": ids}, "edges"))
    for number in range(5):
        ids = _documents([rng.randint(1, 3) for _ in range(4)], window=0)
        leaky = {"mask": _mask(ids, rng, flips=6, future=True), "document_ids": ids}
        cases.append(Case(f"a few wrong entries {number}", leaky, "edges"))
    for number in range(4):
        lengths = [rng.randint(1, 3) for _ in range(3)]
        ids = _documents(lengths, sum(lengths) + 2)
        padded = {"mask": [[1] * len(ids) for _ in ids], "document_ids": ids}
        cases.append(Case(f"all ones with padding {number}", padded, "padding"))
    ids = [0, 0, 1]
    cases.append(Case("a row too few", {"mask": [[1, 0, 0], [1, 1, 0]], "document_ids": ids}, "refusal"))
    ragged = {"mask": [[1, 0, 0], [1, 1], [0, 0, 1]], "document_ids": ids}
    cases.append(Case("a short row", ragged, "refusal"))
    cases.append(Case("nothing", {"mask": [], "document_ids": []}, "edges"))
    return cases


def _rows(rng: random.Random, lengths: list[int]) -> list[dict[str, Any]]:
    """Documents with an ignored prompt, possibly empty, and a supervised rest, possibly empty."""
    rows = []
    for length in lengths:
        ids = [rng.randint(5, 99) for _ in range(length)]
        prompt = rng.randint(0, length)
        rows.append({"input_ids": ids, "labels": [IGNORE] * prompt + ids[prompt:]})
    return rows


def private_boundary_labels(rng: random.Random) -> list[Case]:
    """Full-sequence and assistant-only documents, padded and full windows, broken documents."""
    cases = [Case("no documents", {"documents": [], "window": rng.randint(2, 5)}, "padding")]
    for number in range(5):
        lengths, window = _fitting(rng)
        every = [{**row, "labels": list(row["input_ids"])} for row in _rows(rng, lengths)]
        cases.append(
            Case(f"full-sequence labels {number}", {"documents": every, "window": window}, "boundary")
        )
    for number in range(5):
        lengths, window = _fitting(rng, longest=7)
        some = {"documents": _rows(rng, lengths), "window": window}
        cases.append(Case(f"assistant-only labels {number}", some, "mask"))
    for number in range(2):
        lengths, _ = _fitting(rng)
        padded = {"documents": _rows(rng, lengths), "window": sum(lengths) + rng.randint(2, 5)}
        cases.append(Case(f"padding {number}", padded, "padding"))
    lengths, _ = _fitting(rng)
    over = {"documents": _rows(rng, lengths), "window": sum(lengths) - 1}
    cases.append(Case("a window too small", over, "refusal", says=("window",)))
    uneven = [{"input_ids": [5, 6, 7], "labels": [IGNORE, 6]}]
    cases.append(Case("labels cut off", {"documents": uneven, "window": 4}, "refusal", says=("0",)))
    second = [*_rows(rng, [3]), {"input_ids": [5, 6], "labels": [5, 6, 7]}]
    cases.append(Case("labels too long", {"documents": second, "window": 9}, "refusal", says=("1",)))
    at = rng.randint(2, 3)
    empty = [*_rows(rng, [2] * at), {"input_ids": [], "labels": []}, *_rows(rng, [3])]
    empty_row = {"documents": empty, "window": 14}
    cases.append(Case("a document of no tokens", empty_row, "refusal", says=(str(at),)))
    return cases


_LEAKY = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 1, 1]]

EXERCISES = (
    Exercise(
        name="first_fit",
        lab="05_packing",
        hints=(
            "A row of 3 tokens comes after windows with 12, 16 and 9 of 16 tokens used. Which window gets "
            "it, "
            "and which one would a packer choose that only looks at its newest window?",
            "Keep two lists that grow together: the rows of each window, and the tokens it uses. Look "
            "through "
            "the used counts from the first one on; `<=` and `<` differ exactly when a row fills the rest.",
            "for each row with its position:\n"
            "    refuse a length below 1 or above the window, and name the position\n"
            "    go through the windows from the first: if used + length is at most the window, take it\n"
            "    none took it: open a new window\n"
            "utilisation = all used tokens / (number of windows * window), or 0.0 without windows",
        ),
        properties={"placement": 3, "exact fit": 1, "utilisation": 1, "refusal": 2},
        public=(
            Case(
                "the worked example",
                {"lengths": [9, 6, 7, 5], "window": 16},
                "placement",
                "Every slot that stays empty is computed and teaches nothing.",
            ),
            Case(
                "an early gap",
                {"lengths": [9, 10, 6, 4], "window": 16},
                "placement",
                "A packer that forgets its early windows leaves gaps that later rows would have filled.",
            ),
            Case(
                "short rows first",
                {"lengths": [3, 9, 12, 5], "window": 16},
                "placement",
                "Rows carry labels: positions of a sorted copy would give a row another row's labels.",
            ),
            Case(
                "an exact fit",
                {"lengths": [10, 6, 16], "window": 16},
                "exact fit",
                "A row that fits to the last slot belongs in; refusing it wastes a window per exact fit.",
            ),
            Case(
                "no rows",
                {"lengths": [], "window": 16},
                "utilisation",
                "A shard without rows must not stop a run with a division by zero.",
            ),
            Case(
                "a row longer than the window",
                {"lengths": [4, 4, 17], "window": 16},
                "refusal",
                "A row that is cut without a word loses its end, and with it the answer and the end of turn.",
                says=("2",),
            ),
            Case(
                "a row without tokens",
                {"lengths": [4, 4, 0], "window": 16},
                "refusal",
                "An empty row is a sign that tokenising failed upstream.",
                says=("2",),
            ),
        ),
        private=private_first_fit,
        tolerance=1e-9,
    ),
    Exercise(
        name="packed_position_ids",
        lab="05_packing",
        hints=(
            "Alone, every conversation starts at position 0. What is the position of the first token of the "
            "second document?",
            "Every document is a `range` of its own length, and so is the padding behind the last one.",
            "refuse a length below 1\nrefuse more tokens than the window holds\n"
            "for each length, then for the rest of the window: add 0, 1, 2, ... up to that length",
        ),
        properties={"restart": 3, "padding": 2, "refusal": 1},
        public=(
            Case(
                "two documents",
                {"lengths": [3, 4], "window": 7},
                "restart",
                "Positions that run on tell the model, and the mask built from them, that there is one "
                "document.",
            ),
            Case(
                "documents of one token",
                {"lengths": [1, 1, 3], "window": 5},
                "restart",
                "transformers sees a boundary wherever the position does not grow by exactly one.",
            ),
            Case(
                "three slots of padding",
                {"lengths": [4, 2], "window": 9},
                "padding",
                "Padding that counts on from the last document becomes a part of it.",
            ),
            Case(
                "padding alone",
                {"lengths": [], "window": 3},
                "padding",
                "An empty window is legal: the last batch of an epoch can hold one.",
            ),
            Case(
                "too many tokens",
                {"lengths": [4, 4], "window": 7},
                "refusal",
                "Position ids longer than the input stop the run with a shape error far from the cause.",
                says=("window",),
            ),
            Case(
                "a document without tokens",
                {"lengths": [3, 0, 3], "window": 8},
                "refusal",
                "A length of 0 hides a row that tokenising lost.",
            ),
        ),
        private=private_packed_position_ids,
    ),
    Exercise(
        name="isolation_mask",
        lab="05_packing",
        hints=(
            "Two questions decide every cell: do query and key belong to the same document, and is the key "
            "later than the query?",
            "One nested comprehension over queries (rows) and keys (columns) is enough. Padding has the "
            "number -1 and needs no rule of its own.",
            "for each query position:\n    for each key position:\n"
            "        1 if the documents are equal and the key is not later than the query, else 0",
        ),
        properties={"isolation": 3, "causality": 2, "padding": 1},
        public=(
            Case(
                "two rows of three",
                {"document_ids": [0, 0, 0, 1, 1, 1]},
                "isolation",
                "Customer B's answer must not depend on customer A's evidence.",
            ),
            Case(
                "three documents",
                {"document_ids": [0, 0, 1, 1, 1, 2]},
                "isolation",
                "The third document must see neither the second nor the first.",
            ),
            Case(
                "one document",
                {"document_ids": [0, 0, 0, 0]},
                "causality",
                "A token that sees its successors learns to copy them, and cannot when it has to generate.",
            ),
            Case(
                "padding at the end",
                {"document_ids": [0, 0, 1, -1, -1]},
                "padding",
                "A query that may look at nothing divides 0 by 0 in the softmax: NaN.",
            ),
            Case("no tokens", {"document_ids": []}, "isolation", "An empty window has an empty mask."),
        ),
        private=private_isolation_mask,
    ),
    Exercise(
        name="cross_edges",
        lab="05_packing",
        hints=(
            "Which entries of a mask are allowed although they should not be? And whose output is never "
            "used, "
            "so that what it sees does no harm?",
            "Go through queries, then keys. Skip a query whose document is -1. Do not assume that the "
            "mask is "
            "causal: a wrong one may allow later keys.",
            "refuse a mask that is not as long and as wide as the list of documents\n"
            "for each query that is no padding, for each key:\n"
            "    if the mask allows it and the documents differ: note [query, key]",
        ),
        properties={"edges": 4, "padding": 1, "refusal": 1},
        public=(
            Case(
                "a separate mask",
                {"mask": [[1, 0, 0], [1, 1, 0], [0, 0, 1]], "document_ids": [0, 0, 1]},
                "edges",
                "An audit that cries wolf on a right mask is turned off.",
            ),
            Case(
                "three documents, two leaks",
                {"mask": _LEAKY, "document_ids": [0, 0, 1, 2, 2]},
                "edges",
                "One open cell is enough for evidence to cross.",
            ),
            Case(
                "all ones",
                {"mask": [[1] * 4 for _ in range(4)], "document_ids": [0, 0, 1, 1]},
                "edges",
                "A mask of ones also opens the later document to the earlier one.",
            ),
            Case(
                "all ones with padding",
                {"mask": [[1] * 4 for _ in range(4)], "document_ids": [0, 1, 1, -1]},
                "padding",
                "What padding sees is never used; a document that sees padding is changed by how much "
                "there is.",
            ),
            Case(
                "a mask of another size",
                {"mask": [[1, 0], [1, 1]], "document_ids": [0, 0, 1]},
                "refusal",
                "An audit of the wrong mask finds nothing and reassures.",
            ),
        ),
        private=private_cross_edges,
    ),
    Exercise(
        name="boundary_labels",
        lab="05_packing",
        hints=(
            "The model shifts once: position t is scored on the label at t + 1. Who would have to predict "
            "the "
            "first token of the second document?",
            "Take the labels that each document brings along, replace the first of each by -100, and fill "
            "the "
            "window with -100. Build a new list: the documents are used again in the next epoch.",
            "for each document with its position:\n"
            "    refuse no tokens, or ids and labels of different lengths, and name the position\n"
            "    add -100 and the document's labels from the second on\n"
            "refuse if that is longer than the window\nfill up with -100",
        ),
        properties={"boundary": 3, "mask": 2, "padding": 1, "refusal": 1},
        public=(
            Case(
                "two documents, every token a label",
                {
                    "documents": [
                        {"input_ids": [11, 12, 13], "labels": [11, 12, 13]},
                        {"input_ids": [21, 22], "labels": [21, 22]},
                    ],
                    "window": 5,
                },
                "boundary",
                "Otherwise the end of customer A's answer has to predict how customer B's chat begins.",
            ),
            Case(
                "assistant-only labels",
                {
                    "documents": [
                        {"input_ids": [11, 12, 13], "labels": [IGNORE, 12, 13]},
                        {"input_ids": [21, 22, 23, 24], "labels": [IGNORE, IGNORE, 23, 24]},
                    ],
                    "window": 7,
                },
                "mask",
                "Labels made anew from the ids train on the customer's words.",
            ),
            Case(
                "two slots of padding",
                {"documents": [{"input_ids": [11, 12], "labels": [IGNORE, 12]}], "window": 4},
                "padding",
                "A label of 0 is a token: the model is trained to write it behind every answer.",
            ),
            Case(
                "a window too small",
                {"documents": [{"input_ids": [11, 12, 13], "labels": [11, 12, 13]}], "window": 2},
                "refusal",
                "Labels longer than the window belong to tokens that were cut off.",
                says=("window",),
            ),
            Case(
                "a label is missing",
                {
                    "documents": [
                        {"input_ids": [11, 12], "labels": [IGNORE, 12]},
                        {"input_ids": [21, 22, 23], "labels": [IGNORE, 23]},
                    ],
                    "window": 8,
                },
                "refusal",
                "One missing label shifts the labels of every document behind it.",
                says=("1",),
            ),
            Case(
                "a document without tokens",
                {
                    "documents": [
                        {"input_ids": [11, 12], "labels": [IGNORE, 12]},
                        {"input_ids": [], "labels": []},
                        {"input_ids": [21, 22], "labels": [IGNORE, 22]},
                    ],
                    "window": 8,
                },
                "refusal",
                "It has no slot: a label for it belongs to nothing and moves every label behind it by one.",
                says=("1",),
            ),
        ),
        private=private_boundary_labels,
    ),
)
