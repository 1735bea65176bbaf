"""Lab 05: real packing bugs, and right answers in other styles."""

from itertools import accumulate, chain, groupby
from typing import Any

from autograder.faults.registry import alternative, fault, reference

IGNORE = -100
Documents = list[dict[str, list[int]]]


# first_fit


def _filled(windows: list[list[int]], used: list[int], window: int) -> dict[str, Any]:
    return {
        "windows": windows,
        "used": used,
        "utilisation": sum(used) / (window * len(used)) if used else 0.0,
    }


def _first_fit(lengths: list[int], window: int, *, spare: int = 0) -> dict[str, Any]:
    """First fit without refusals; `spare` slots of a window are never filled by a second row."""
    windows: list[list[int]] = []
    used: list[int] = []
    for row, length in enumerate(lengths):
        for place, taken in enumerate(used):
            if taken + length <= window - spare:
                windows[place].append(row)
                used[place] += length
                break
        else:
            windows.append([row])
            used.append(length)
    return _filled(windows, used, window)


@fault(
    "packing.newest_window_only",
    exercise="first_fit",
    title="Only the newest window is looked at",
    symptom="More windows than needed; utilisation well below that of TRL's packer on the same rows.",
    first_check="Pack rows of 9, 10 and 6 tokens into 16: two windows are enough.",
    consequence="Gaps in earlier windows stay empty, and every step computes on padding that teaches "
    "nothing.",
    citation="Next fit, the packer of many a first draft. Seen here: 480 ShopFlow rows in windows of 256 "
    "take "
    "221 windows where first fit takes 195 (utilisation 0.76 and 0.86).",
)
def _(lengths: list[int], window: int) -> dict[str, Any]:
    reference("first_fit")(lengths=lengths, window=window)
    windows: list[list[int]] = []
    used: list[int] = []
    for row, length in enumerate(lengths):
        if not used or used[-1] + length > window:
            windows.append([])
            used.append(0)
        windows[-1].append(row)
        used[-1] += length
    return _filled(windows, used, window)


@fault(
    "packing.exact_fit_refused",
    exercise="first_fit",
    title="A row that fits exactly is treated as too long for the gap",
    symptom="Windows that could be full are never full.",
    first_check="Pack rows of 10 and 6 tokens into 16: one window.",
    consequence="Every exact fit costs a window of its own, so the run takes more steps for the same rows.",
    citation="The same off-by-one, length equal to the limit treated as truncated, was found in the "
    "review of "
    "https://github.com/huggingface/trl/pull/6003",
)
def _(lengths: list[int], window: int) -> dict[str, Any]:
    reference("first_fit")(lengths=lengths, window=window)
    return _first_fit(lengths, window, spare=1)


@fault(
    "packing.long_row_accepted",
    exercise="first_fit",
    title="A row longer than the window gets a window of its own",
    symptom="Some windows are longer than the window size; memory runs out in the middle of a run.",
    first_check="Compare the longest window with the window size.",
    consequence="One batch is larger than planned and the run stops, or positions pass what the model knows.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/2332",
)
def _(lengths: list[int], window: int) -> dict[str, Any]:
    return _first_fit(lengths, window)


@fault(
    "packing.long_row_cut",
    exercise="first_fit",
    title="A row longer than the window is cut without a word",
    symptom="Fewer tokens come out of the packer than went in, and nothing is logged.",
    first_check="Compare the sum of the row lengths with the sum of the used slots.",
    consequence="The end of a long chat is lost, and that is where the answer and its end of turn are.",
    citation="TRL's default strategy bfd does it: https://github.com/huggingface/trl/pull/5076",
)
def _(lengths: list[int], window: int) -> dict[str, Any]:
    return _first_fit([min(length, window) for length in lengths], window)


@fault(
    "packing.sorted_positions",
    exercise="first_fit",
    title="The windows hold positions of the sorted list, not of the given one",
    symptom="Lengths look right, but the texts in a window are not the ones that were counted.",
    first_check="Add up the lengths of the rows that a window names, and compare with the used slots.",
    consequence="Rows are filed under other rows' numbers, so labels and ids of different chats meet.",
    citation="Columns that came apart after a reordering were fixed in TRL's packer too; the comment in "
    "_pack_wrapped tells of it: https://github.com/huggingface/trl/blob/main/trl/data_utils.py",
)
def _(lengths: list[int], window: int) -> dict[str, Any]:
    reference("first_fit")(lengths=lengths, window=window)
    return _first_fit(sorted(lengths, reverse=True), window)


@alternative("first_fit", style="for and else, free slots")
def _(lengths: list[int], window: int) -> dict[str, Any]:
    packed: list[list[int]] = []
    free: list[int] = []
    for row, length in enumerate(lengths):
        if length < 1:
            raise ValueError(f"Row {row} is empty.")
        if length > window:
            raise ValueError(f"Row {row} does not fit into {window}.")
        for place in range(len(free)):
            if length <= free[place]:
                break
        else:
            place = len(free)
            packed.append([])
            free.append(window)
        packed[place].append(row)
        free[place] -= length
    used = [window - left for left in free]
    share = 1 - sum(free) / (window * len(free)) if free else 0.0
    return {"windows": packed, "used": used, "utilisation": share}


@alternative("first_fit", style="lengths looked up again for every window")
def _(lengths: list[int], window: int) -> dict[str, Any]:
    for row, length in enumerate(lengths):
        if length not in range(1, window + 1):
            raise ValueError(f"row {row}: {length} tokens, window {window}")
    windows: list[list[int]] = []
    for row in range(len(lengths)):
        room = [place for place in windows if sum(lengths[r] for r in place) + lengths[row] <= window]
        if room:
            room[0].append(row)
        else:
            windows.append([row])
    used = [sum(lengths[r] for r in place) for place in windows]
    return {"windows": windows, "used": used, "utilisation": sum(lengths) / max(1, len(windows) * window)}


@alternative("first_fit", style="recursion over the rows that are left")
def _(lengths: list[int], window: int) -> dict[str, Any]:
    wrong = [str(row) for row, length in enumerate(lengths) if length < 1 or length > window]
    if wrong:
        raise ValueError(f"Rows {', '.join(wrong)} fit no window.")

    def place(row: int, windows: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if row == len(lengths):
            return windows
        for at, rows in enumerate(windows):
            if sum(lengths[r] for r in rows) + lengths[row] <= window:
                return place(row + 1, (*windows[:at], (*rows, row), *windows[at + 1 :]))
        return place(row + 1, (*windows, (row,)))

    windows = place(0, ())
    used = [sum(lengths[r] for r in rows) for rows in windows]
    return {
        "windows": [list(rows) for rows in windows],
        "used": used,
        "utilisation": sum(used) / len(used) / window if used else 0.0,
    }


# packed_position_ids


@fault(
    "packing.positions_run_on",
    exercise="packed_position_ids",
    title="Positions count through the whole window",
    symptom="Changing document A changes the logits of document B, on every attention implementation.",
    first_check="Count the zeros in the position ids: there must be one per document.",
    consequence="The library sees one long document, builds a plain causal mask, and customers see each "
    "other.",
    citation="https://github.com/hiyouga/LlamaFactory/pull/7318",
)
def _(lengths: list[int], window: int) -> list[int]:
    reference("packed_position_ids")(lengths=lengths, window=window)
    return list(range(window))


@fault(
    "packing.padding_each_its_own",
    exercise="packed_position_ids",
    title="Every slot of padding has position 0",
    symptom="One document per padding slot: sequence counts and cu_seq_lens that no one expects.",
    first_check="Compare the number of zeros with the number of documents.",
    consequence="Every padding slot is a document of its own: harmless for the loss, but kernels that "
    "work by "
    "document slow down, and figures per document are wrong.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/2739 ; TRL 1.16 does it with "
    "pad_to_multiple_of (seen here).",
)
def _(lengths: list[int], window: int) -> list[int]:
    padded: list[int] = reference("packed_position_ids")(lengths=lengths, window=window)
    return padded[: sum(lengths)] + [0] * (window - sum(lengths))


@fault(
    "packing.padding_joins_last",
    exercise="packed_position_ids",
    title="Padding counts on from the last document",
    symptom="The last document of every window is as long as the rest of the window.",
    first_check="Look at the position of the first padding slot: it must be 0.",
    consequence="Padding belongs to the last conversation of each window, so lengths and shares per document "
    "are wrong for that one.",
    citation="Seen here: a running count that is only set back where a document starts.",
)
def _(lengths: list[int], window: int) -> list[int]:
    reference("packed_position_ids")(lengths=lengths, window=window)
    rest = window - sum(lengths)
    stretched = [*lengths[:-1], lengths[-1] + rest] if lengths else [rest]
    positions: list[int] = reference("packed_position_ids")(lengths=stretched, window=window)
    return positions


@fault(
    "packing.positions_not_padded",
    exercise="packed_position_ids",
    title="The position ids end with the last document",
    symptom="RuntimeError about two tensor sizes inside apply_rotary_pos_emb, but only in padded windows.",
    first_check="Compare the number of position ids with the window size.",
    consequence="The run stops at the first padded window with a shape error far from its cause.",
    citation="https://github.com/hiyouga/LlamaFactory/pull/10737",
)
def _(lengths: list[int], window: int) -> list[int]:
    padded: list[int] = reference("packed_position_ids")(lengths=lengths, window=window)
    return padded[: sum(lengths)]


@fault(
    "packing.only_first_document_counted",
    exercise="packed_position_ids",
    title="Only the first document gets positions, the others all have 1",
    symptom="The first document of each window learns, the others hardly do.",
    first_check="Print the position ids of the second document.",
    consequence="All tokens of the later documents claim the same place, so their word order is gone.",
    citation="Code that only counted where the mask is 1, given document numbers as mask: "
    "https://github.com/hiyouga/LlamaFactory/pull/7754",
)
def _(lengths: list[int], window: int) -> list[int]:
    padded: list[int] = reference("packed_position_ids")(lengths=lengths, window=window)
    first = lengths[0] if lengths else 0
    return padded[:first] + [1] * (window - first)


@alternative("packed_position_ids", style="a counter")
def _(lengths: list[int], window: int) -> list[int]:
    if any(length <= 0 for length in lengths):
        raise ValueError("a document has no tokens")
    if sum(lengths) > window:
        raise ValueError(f"the window of {window} is too small")
    starts = {0, *accumulate(lengths)}
    positions, current = [], 0
    for at in range(window):
        current = 0 if at in starts else current + 1
        positions.append(current)
    return positions


@alternative("packed_position_ids", style="differences and a running sum, as in TRL")
def _(lengths: list[int], window: int) -> list[int]:
    if min(lengths, default=1) < 1:
        raise ValueError("Lengths are at least 1.")
    rest = window - sum(lengths)
    if rest < 0:
        raise ValueError(f"{-rest} tokens too many for the window.")
    parts = [*lengths, rest] if rest else list(lengths)
    steps = [1] * window
    at = 0
    previous = 1
    for part in parts:
        steps[at] = 1 - previous
        at, previous = at + part, part
    return list(accumulate(steps))


@alternative("packed_position_ids", style="chained ranges")
def _(lengths: list[int], window: int) -> list[int]:
    if 0 in lengths or any(length < 0 for length in lengths):
        raise ValueError("0 tokens")
    if window < sum(lengths):
        raise ValueError("Too many tokens for this window.")
    return list(chain.from_iterable(map(range, (*lengths, window - sum(lengths)))))


# isolation_mask


@fault(
    "packing.causal_only",
    exercise="isolation_mask",
    title="Causal, but not separated by document",
    symptom="Changing document A changes document B's logits; training runs without an error.",
    first_check="Replace one document of a window and compare the other's logits.",
    consequence="Customer B's answer is learned with customer A's evidence in view: in production that "
    "evidence is not there.",
    citation="https://github.com/huggingface/trl/issues/1230 ; TRL's strategy wrapped does it today (seen "
    "here).",
    experiment="packed_unisolated",
)
def _(document_ids: list[int]) -> list[list[int]]:
    size = range(len(document_ids))
    return [[int(key <= query) for key in size] for query in size]


@fault(
    "packing.block_not_causal",
    exercise="isolation_mask",
    title="Separated by document, but not causal",
    symptom="The training loss falls close to 0 within a few hundred steps; generation is useless.",
    first_check="The upper triangle of the mask must be 0.",
    consequence="Every token sees the one it has to predict: the model learns to copy it and cannot "
    "generate.",
    citation="https://github.com/huggingface/transformers/issues/48745",
)
def _(document_ids: list[int]) -> list[list[int]]:
    return [[int(mine == other) for other in document_ids] for mine in document_ids]


@fault(
    "packing.query_key_swapped",
    exercise="isolation_mask",
    title="Queries and keys are swapped",
    symptom="Each token sees itself and what comes after it in its document.",
    first_check="Row 1 of a document is its second token and must see two keys.",
    consequence="The model reads backwards: it sees the answer it has to predict and not the question "
    "before it.",
    citation="Seen here: with the transposed mask the leak test between documents still says 0.0, so only "
    "a test of causality finds it. A mask without the causal triangle: "
    "https://github.com/huggingface/candle/issues/3567",
)
def _(document_ids: list[int]) -> list[list[int]]:
    right = reference("isolation_mask")(document_ids=document_ids)
    return [list(column) for column in zip(*right, strict=True)]


@fault(
    "packing.segment_ids_as_bool",
    exercise="isolation_mask",
    title="Document numbers are read as true or false",
    symptom="Padding is masked, documents are not separated, nothing warns.",
    first_check="Give two documents the numbers 1 and 2 and look whether the second sees the first.",
    consequence="Numbers 1 and 2 both count as true, so the mask only says where padding is.",
    citation="https://github.com/allenai/open-instruct/issues/669",
)
def _(document_ids: list[int]) -> list[list[int]]:
    size = range(len(document_ids))
    there = [one >= 0 for one in document_ids]
    return [[int(key <= query and there[query] and there[key]) for key in size] for query in size]


@fault(
    "packing.padding_sees_nothing",
    exercise="isolation_mask",
    title="Padding may look at nothing at all",
    symptom="NaN in the output of the padded positions, and in the loss as soon as anything touches them.",
    first_check="Every row of the mask must have at least one 1.",
    consequence="A softmax over nothing is 0 divided by 0: NaN, which spreads to every weight at the next "
    "step.",
    citation="https://github.com/pytorch/pytorch/issues/103749",
)
def _(document_ids: list[int]) -> list[list[int]]:
    right = reference("isolation_mask")(document_ids=document_ids)
    return [[0] * len(row) if one < 0 else row for row, one in zip(right, document_ids, strict=True)]


@fault(
    "packing.first_token_shared",
    exercise="isolation_mask",
    title="Every document still sees the first token of the window",
    symptom="Small changes in B's logits when the first token of A changes.",
    first_check="Column 0 must be 0 outside the first document.",
    consequence="Models put much attention on a first token: through it every document depends on the first.",
    citation="Seen here: the start of a window kept open as an attention sink. The sink itself: Xiao et al. "
    "2023, https://arxiv.org/abs/2309.17453",
)
def _(document_ids: list[int]) -> list[list[int]]:
    return [[1, *row[1:]] for row in reference("isolation_mask")(document_ids=document_ids)]


@alternative("isolation_mask", style="loops that fill zeros")
def _(document_ids: list[int]) -> list[list[int]]:
    size = len(document_ids)
    mask = [[0] * size for _ in range(size)]
    for query in range(size):
        key = query
        while key >= 0 and document_ids[key] == document_ids[query]:
            mask[query][key] = 1
            key -= 1
    return mask


@alternative("isolation_mask", style="blocks of runs")
def _(document_ids: list[int]) -> list[list[int]]:
    mask: list[list[int]] = []
    size = len(document_ids)
    for _, run in groupby(document_ids):
        length, start = len(list(run)), len(mask)
        for row in range(length):
            mask.append([0] * start + [1] * (row + 1) + [0] * (size - start - row - 1))
    return mask


@alternative("isolation_mask", style="NumPy comparison and triangle")
def _(document_ids: list[int]) -> list[list[int]]:
    import numpy as np

    ids = np.asarray(document_ids, dtype=int)
    mask: list[list[int]] = np.tril((ids[:, None] == ids[None, :]).astype(int)).tolist()
    return mask


# cross_edges


def _audited(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    edges: list[list[int]] = reference("cross_edges")(mask=mask, document_ids=document_ids)
    return edges


@fault(
    "packing.audit_swapped",
    exercise="cross_edges",
    title="Edges are reported as key and query instead of query and key",
    symptom="The report names the document that was seen as the one that sees.",
    first_check="In a causal mask the query of an edge is never before its key.",
    consequence="The audit sends people to repair the document that leaks, not the one that receives.",
    citation="Seen here: Hugging Face masks are [batch, head, query, key], attention plots often draw "
    "keys first.",
)
def _(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    return [[key, query] for query, key in _audited(mask, document_ids)]


@fault(
    "packing.audit_past_only",
    exercise="cross_edges",
    title="Only keys before the query are looked at",
    symptom="A mask of all ones shows half of its edges.",
    first_check="Audit a mask of all ones over two documents of two tokens: eight edges.",
    consequence="A mask that lost its causal triangle passes, and the earlier document sees the later one.",
    citation="A mask without its triangle went unnoticed in "
    "https://github.com/huggingface/candle/issues/3567",
)
def _(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    return [[query, key] for query, key in _audited(mask, document_ids) if key < query]


@fault(
    "packing.audit_neighbours_only",
    exercise="cross_edges",
    title="Only the document before is looked at",
    symptom="Document 3 sees document 1 and the audit says nothing.",
    first_check="Audit a window of three documents, not of two.",
    consequence="Most leaks reach back further than one document: the audit finds the fewer, the more "
    "documents "
    "a window holds.",
    citation="A boundary test on two documents only; isolation held in one backend and not in the others: "
    "https://github.com/axolotl-ai-cloud/axolotl/pull/3796",
)
def _(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    edges = _audited(mask, document_ids)
    return [edge for edge in edges if abs(document_ids[edge[0]] - document_ids[edge[1]]) == 1]


@fault(
    "packing.audit_counts_padding",
    exercise="cross_edges",
    title="What padding sees is reported too",
    symptom="Every padded window is reported as leaking.",
    first_check="Audit one document with padding behind it and a causal mask: no edges.",
    consequence="Nobody uses the output of padding; an audit that always reports something is turned off.",
    citation="Padding as documents of their own: https://github.com/axolotl-ai-cloud/axolotl/pull/2739",
)
def _(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    _audited(mask, document_ids)
    return [
        [query, key]
        for query, row in enumerate(mask)
        for key, allowed in enumerate(row)
        if allowed and document_ids[query] != document_ids[key]
    ]


@fault(
    "packing.audit_ignores_padding_keys",
    exercise="cross_edges",
    title="A document that sees padding is not reported",
    symptom="The same row gives other logits in a window with more padding, and the audit is clean.",
    first_check="Audit a mask of all ones with one slot of padding.",
    consequence="The answer depends on how much padding a batch happens to have.",
    citation="Real tokens that attended to padding: https://github.com/axolotl-ai-cloud/axolotl/pull/3735",
)
def _(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    return [edge for edge in _audited(mask, document_ids) if document_ids[edge[1]] >= 0]


@alternative("cross_edges", style="loops")
def _(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    size = len(document_ids)
    if len(mask) != size:
        raise ValueError("mask and documents differ in size")
    for row in mask:
        if len(row) != size:
            raise ValueError("mask and documents differ in size")
    edges = []
    for query in range(size):
        if document_ids[query] == -1:
            continue
        for key in range(size):
            if mask[query][key] and document_ids[key] != document_ids[query]:
                edges.append([query, key])
    return edges


@alternative("cross_edges", style="NumPy")
def _(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    import numpy as np

    size = len(document_ids)
    if {len(mask), *map(len, mask)} - {size}:
        raise ValueError(f"Expected a mask of {size} by {size}.")
    if not size:
        return []
    ids = np.array(document_ids)
    wrong = np.array(mask, dtype=bool) & (ids[:, None] != ids[None, :]) & (ids >= 0)[:, None]
    edges: list[list[int]] = np.argwhere(wrong).tolist()
    return edges


@alternative("cross_edges", style="a set, sorted at the end")
def _(mask: list[list[int]], document_ids: list[int]) -> list[list[int]]:
    if len(mask) != len(document_ids) or any(len(row) != len(document_ids) for row in mask):
        raise ValueError("not square")
    allowed = {(q, k) for q, row in enumerate(mask) for k, one in enumerate(row) if one}
    own = {(q, k) for q, k in allowed if document_ids[q] in (-1, document_ids[k])}
    return [list(edge) for edge in sorted(allowed - own)]


# boundary_labels


@fault(
    "packing.boundary_trained",
    exercise="boundary_labels",
    title="The first token of a document keeps its label",
    symptom="One supervised token too many per document, right after every end of turn.",
    first_check="The label at each document's first token must be -100.",
    consequence="The end of one chat is trained to predict the start of an unrelated one, and so to go on "
    "where it should stop.",
    citation="https://github.com/meta-pytorch/torchtune/pull/2613 ; TRL's strategy wrapped does it today "
    "(seen here).",
)
def _(documents: Documents, window: int) -> list[int]:
    padded: list[int] = reference("boundary_labels")(documents=documents, window=window)
    labels = [label for document in documents for label in document["labels"]]
    return labels + padded[len(labels) :]


@fault(
    "packing.mask_thrown_away",
    exercise="boundary_labels",
    title="Labels are made anew from the ids",
    symptom="The supervised share jumps to almost 1 as soon as packing is on.",
    first_check="Decode the labels after packing: no word of the customer may be among them.",
    consequence="The assistant-only mask is computed and then lost: the model is trained on what "
    "customers write.",
    citation="https://github.com/karpathy/nanochat/issues/570 ; restoring the mask raised nanochat's "
    "ChatCORE "
    "from 0.315 to 0.355: https://github.com/karpathy/nanochat/pull/582",
)
def _(documents: Documents, window: int) -> list[int]:
    padded: list[int] = reference("boundary_labels")(documents=documents, window=window)
    labels = [one for d in documents for one in (IGNORE, *d["input_ids"][1:])]
    return labels + padded[len(labels) :]


@fault(
    "packing.last_label_masked",
    exercise="boundary_labels",
    title="The last label of each document is masked instead of the first",
    symptom="The model answers and does not stop.",
    first_check="The last label of an answer must be its end-of-turn token.",
    consequence="The last label is the end of turn: without it the model never learns to stop.",
    citation="Seen here when labels are masked for the position that predicts instead of the one that is "
    "predicted. The damage, an end of turn that nobody trains: "
    "https://github.com/axolotl-ai-cloud/axolotl/pull/3756",
    experiment="eot_masked",
)
def _(documents: Documents, window: int) -> list[int]:
    padded: list[int] = reference("boundary_labels")(documents=documents, window=window)
    labels = [one for d in documents for one in (*d["labels"][:-1], IGNORE)]
    return labels + padded[len(labels) :]


@fault(
    "packing.labels_shifted_already",
    exercise="boundary_labels",
    title="Labels are shifted here, and once more by the model",
    symptom="The loss starts high and the model learns to skip every other token.",
    first_check="A label must equal the id at its own position.",
    consequence="The model shifts as well: every position is trained to predict the token after the next.",
    citation="https://github.com/allenai/open-instruct/pull/1549",
    experiment="shifted_twice",
)
def _(documents: Documents, window: int) -> list[int]:
    padded: list[int] = reference("boundary_labels")(documents=documents, window=window)
    labels = [one for d in documents for one in (*d["labels"][1:], IGNORE)]
    return labels + padded[len(labels) :]


@fault(
    "packing.padding_trained",
    exercise="boundary_labels",
    title="Padding gets the label 0",
    symptom="Answers are followed by a run of one odd token.",
    first_check="Count the labels that are not -100 and compare with the answers' tokens.",
    consequence="0 is a token like any other: the model is trained to write it behind every answer.",
    citation="Padding trained by the hundred: https://github.com/getainode/ainode/issues/186",
)
def _(documents: Documents, window: int) -> list[int]:
    right: list[int] = reference("boundary_labels")(documents=documents, window=window)
    tokens = sum(len(d["labels"]) for d in documents)
    return right[:tokens] + [0] * (window - tokens)


@fault(
    "packing.only_first_boundary",
    exercise="boundary_labels",
    title="Only the first document of a window loses its first label",
    symptom="A window of one document is right, a window of several is not.",
    first_check="Check the start of the second document.",
    consequence="Position 0 is never predicted anyway: what was masked is the one place where it does not "
    "matter.",
    citation="Seen here. The shift drops label 0 of a row: "
    "https://github.com/huggingface/transformers/pull/46204 counts what happens when code forgets that.",
)
def _(documents: Documents, window: int) -> list[int]:
    padded: list[int] = reference("boundary_labels")(documents=documents, window=window)
    labels = [label for document in documents for label in document["labels"]]
    return [IGNORE, *(labels + padded[len(labels) :])[1:]] if padded else []


@fault(
    "packing.empty_document_slot",
    exercise="boundary_labels",
    title="A document without tokens gets a slot",
    symptom="The labels are one longer than the ids, or padding is one short.",
    first_check="Compare the number of labels before padding with the number of ids.",
    consequence="Every label behind it stands one slot too late: the model is trained to repeat the token it "
    "sees.",
    citation="Seen here: a -100 in front of the document's labels from the second on is one label even where "
    "there is no document.",
)
def _(documents: Documents, window: int) -> list[int]:
    slotted = [d if d["input_ids"] else {"input_ids": [0], "labels": [IGNORE]} for d in documents]
    labels: list[int] = reference("boundary_labels")(documents=slotted, window=window)
    return labels


@alternative("boundary_labels", style="concatenate, then mask the starts")
def _(documents: Documents, window: int) -> list[int]:
    labels: list[int] = []
    starts = []
    for number, document in enumerate(documents):
        if len(document["input_ids"]) != len(document["labels"]):
            raise ValueError(f"document {number} is uneven")
        if not document["labels"]:
            raise ValueError(f"document {number} is empty")
        starts.append(len(labels))
        labels += document["labels"]
    if len(labels) > window:
        raise ValueError("too long for the window")
    for start in starts:
        labels[start] = IGNORE
    return labels + [IGNORE] * (window - len(labels))


@alternative("boundary_labels", style="start from a window of -100")
def _(documents: Documents, window: int) -> list[int]:
    out = [IGNORE] * window
    at = 0
    for number, document in enumerate(documents):
        size = len(document["labels"])
        if size != len(document["input_ids"]):
            raise ValueError(f"{number}: {size} labels")
        if size == 0:
            raise ValueError(f"Nothing in document {number}.")
        if at + size > window:
            raise ValueError("The window is full.")
        out[at + 1 : at + size] = document["labels"][1:]
        at += size
    return out


@alternative("boundary_labels", style="by position ids, as TRL does it")
def _(documents: Documents, window: int) -> list[int]:
    for number, document in enumerate(documents):
        if not document["input_ids"] or len(document["input_ids"]) != len(document["labels"]):
            raise ValueError(f"labels of document {number} do not match its ids")
    flat = [label for document in documents for label in document["labels"]]
    positions = [p for document in documents for p in range(len(document["input_ids"]))]
    if len(flat) > window:
        raise ValueError(f"more than a window of {window}")
    masked = [IGNORE if position == 0 else label for label, position in zip(flat, positions, strict=True)]
    return masked + [IGNORE] * (window - len(masked))
