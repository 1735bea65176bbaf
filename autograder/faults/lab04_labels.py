"""Lab 04: mistakes of label masks and of the loss, and right answers in other styles."""

import math
from functools import reduce
from itertools import pairwise
from typing import Any

from autograder.faults.registry import alternative, fault, reference

IGNORED = -100


def _runs(labels: list[Any]) -> list[range]:
    """Neighbouring labelled positions."""
    edges = [
        i
        for i, (a, b) in enumerate(pairwise([IGNORED, *labels, IGNORED]))
        if (a == IGNORED) != (b == IGNORED)
    ]
    return [range(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]


# assistant_labels


@fault(
    "labels.everything",
    exercise="assistant_labels",
    title="Every token is labelled",
    symptom="The number of supervised tokens equals the number of tokens.",
    first_check="Count the labels that are not -100 in one prepared row and decode them.",
    consequence="System prompt and question are learned as well: four fifths of the gradient go into text that "
    "the model never has to write.",
    citation="TRL's default for a messages column, https://github.com/huggingface/trl/issues/3279",
    experiment="full_sequence",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    reference("assistant_labels")(tokens, header, end)
    return list(tokens)


@fault(
    "labels.end_not_trained",
    exercise="assistant_labels",
    title="The end of turn is not labelled",
    symptom="The training loss is healthy and every answer runs into the token limit.",
    first_check="Decode the last supervised token of a row: it must be the end of turn.",
    consequence="A model trained on this never learns to stop.",
    citation="https://github.com/axolotl-ai-cloud/axolotl/pull/3756",
    experiment="eot_masked",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    return [
        IGNORED if label == end else label for label in reference("assistant_labels")(tokens, header, end)
    ]


@fault(
    "labels.header_included",
    exercise="assistant_labels",
    title="The header is labelled with the answer",
    symptom="Supervised text begins with the assistant's header.",
    first_check="Decode the first supervised token of a row: it must be the answer's.",
    consequence="The model learns to open turns itself; served without a cue it may write the header into its "
    "answer.",
    citation="TRL 1.16's DeepSeek and GPT-OSS training templates, read and run here; "
    "https://github.com/huggingface/trl/tree/main/trl/chat_templates",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    labels = reference("assistant_labels")(tokens, header, end)
    for run in _runs(labels):
        labels[run.start - len(header) : run.start] = header
    return labels


@fault(
    "labels.last_turn_only",
    exercise="assistant_labels",
    title="Only the last assistant turn is labelled",
    symptom="A row with three answers has one supervised span.",
    first_check="Count the supervised end-of-turn tokens of a row with several turns.",
    consequence="Earlier answers are computed and thrown away; on long threads most of the data teaches nothing.",
    citation="https://github.com/huggingface/trl/issues/588 , https://github.com/huggingface/trl/pull/1185",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    labels = reference("assistant_labels")(tokens, header, end)
    runs = _runs(labels)
    start = runs[-1].start if runs else len(labels)
    return [IGNORED] * start + labels[start:]


@fault(
    "labels.rest_of_the_row",
    exercise="assistant_labels",
    title="Everything after the first header is labelled",
    symptom="From the second turn on, the customer's questions are supervised.",
    first_check="Decode the supervised tokens of a row with two turns: no question may be among them.",
    consequence="Customers' questions take their share of the gradient, and the loss no longer speaks of answers "
    "alone; on nano the answers did not suffer, so nothing but a look at the labels shows it.",
    citation="https://github.com/Blaizzy/mlx-vlm/pull/970",
    experiment="user_trained",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    labels = reference("assistant_labels")(tokens, header, end)
    runs = _runs(labels)
    return labels if not runs else labels[: runs[0].start] + list(tokens[runs[0].start :])


@fault(
    "labels.shifted_by_hand",
    exercise="assistant_labels",
    title="The labels are shifted already",
    symptom="Each label equals the next token; the loss is high and falls slowly.",
    first_check="Compare labels and ids at one supervised position: they must be equal, not neighbours.",
    consequence="The model shifts again and learns to skip every second word.",
    citation="https://github.com/tloen/alpaca-lora/issues/171 , https://github.com/allenai/open-instruct/pull/1549",
    experiment="shifted_twice",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    labels: list[Any] = reference("assistant_labels")(tokens, header, end)
    return [*labels[1:], IGNORED] if labels else labels


@fault(
    "labels.first_token_lost",
    exercise="assistant_labels",
    title="The first token of each answer is not labelled",
    symptom="Answers begin with a wrong or repeated word and go on correctly.",
    first_check="Count: the target predicted by the header's last token must contribute to the loss.",
    consequence="What the model says first is left to chance, and everything after depends on it.",
    citation="https://github.com/OpenRLHF/OpenRLHF/issues/973",
    experiment="one_late",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    labels = reference("assistant_labels")(tokens, header, end)
    for run in _runs(labels):
        labels[run.start] = IGNORED
    return labels


@fault(
    "labels.one_early",
    exercise="assistant_labels",
    title="The header's last token is labelled",
    symptom="Supervised text begins with a line break.",
    first_check="Print the first supervised token with its white space visible.",
    consequence="One easy target a turn is learned that the server writes: harmless alone, but two pipelines "
    "that differ in it report different losses.",
    citation="TRL 1.16's Qwen2.5 training template, "
    "https://github.com/huggingface/trl/blob/main/trl/chat_templates/qwen2_5_training.jinja",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    labels = reference("assistant_labels")(tokens, header, end)
    for run in _runs(labels):
        labels[run.start - 1] = tokens[run.start - 1]
    return labels


@fault(
    "labels.one_late",
    exercise="assistant_labels",
    title="The token after the end is labelled too",
    symptom="Supervised text ends with a line break, or with the next turn's first token.",
    first_check="Print the last supervised token: it must be the end of turn.",
    consequence="The model learns what the template writes after it has stopped; where that is the next turn's "
    "opening, it learns to go on.",
    citation="TRL 1.16's ChatML-like training templates train the line break; GLM-4-MoE's ends with the next "
    "<|user|> on purpose: https://github.com/huggingface/trl/tree/main/trl/chat_templates",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    labels = reference("assistant_labels")(tokens, header, end)
    for run in _runs(labels):
        if tokens[run.stop - 1] == end and run.stop < len(tokens):
            labels[run.stop] = tokens[run.stop]
    return labels


@fault(
    "labels.made_up_end",
    exercise="assistant_labels",
    title="A truncated answer gets an end",
    symptom="Long answers stop in the middle of a sentence.",
    first_check="Find a row that was cut and decode its last label: it must be the text's own token.",
    consequence="The model learns to stop in mid-sentence, at the length where the training rows were cut.",
    citation="torchtune's truncation helper, torchtune/data/_utils.py; proposed and closed in "
    "https://github.com/huggingface/trl/pull/4698",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    labels: list[Any] = reference("assistant_labels")(tokens, header, end)
    return [*labels[:-1], end] if labels and labels[-1] not in (IGNORED, end) else labels


@fault(
    "labels.any_turn_opens",
    exercise="assistant_labels",
    title="The first token of the header is taken for the header",
    symptom="User turns are supervised from their role name on.",
    first_check="Decode the supervised tokens: no role name and no question may be among them.",
    consequence="Every turn opens with the same token, so questions and role names are learned like answers.",
    citation="A marker that is matched in part or out of context: https://github.com/huggingface/trl/issues/1183",
    experiment="user_trained",
)
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    return reference("assistant_labels")(tokens, header[:1], end)  # type: ignore[no-any-return]


@alternative("assistant_labels", style="state machine, one token at a time")
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    if len(header) == 0:
        raise ValueError("give at least one header token")
    labels, speaking, matched = [], False, 0
    for position, token in enumerate(tokens):
        if speaking:
            labels.append(token)
            if token == end:
                speaking, matched = False, position + 1
            continue
        labels.append(IGNORED)
        begin = position + 1 - len(header)
        speaking = begin >= matched and list(tokens[begin : position + 1]) == list(header)
    return labels


@alternative("assistant_labels", style="recursion on the rest of the row")
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    if not header:
        raise ValueError("the header has no tokens")

    def rest_of(row: list[Any]) -> list[Any]:
        where = next((i for i in range(len(row)) if row[i : i + len(header)] == header), None)
        if where is None:
            return [IGNORED] * len(row)
        begin = where + len(header)
        rest = row[begin:]
        length = rest.index(end) + 1 if end in rest else len(rest)
        return [IGNORED] * begin + rest[:length] + rest_of(rest[length:])

    return rest_of(list(tokens))


@alternative("assistant_labels", style="spans first, then a comprehension")
def _(tokens: list[Any], header: list[Any], end: Any) -> list[Any]:
    if header == []:
        raise ValueError("an empty header opens nothing")
    inside: set[int] = set()
    for opening in range(len(tokens) - len(header) + 1):
        if opening in inside or tokens[opening : opening + len(header)] != header:
            continue
        for position in range(opening + len(header), len(tokens)):
            inside.add(position)
            if tokens[position] == end:
                break
    return [token if i in inside else IGNORED for i, token in enumerate(tokens)]


# labels_from_offsets


def _checked(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> None:
    reference("labels_from_offsets")(ids, offsets, spans)


@fault(
    "offsets.contained_only",
    exercise="labels_from_offsets",
    title="A token that straddles a boundary is left out",
    symptom="Answers begin without their first letters' token; the count is one short for some rows.",
    first_check="Compare the decoded supervised text with the answer, character by character.",
    consequence="The model never learns how an answer begins, wherever the tokenizer merged a space with it.",
    citation="https://github.com/huggingface/trl/issues/598 , https://github.com/unslothai/unsloth/pull/6926",
)
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    _checked(ids, offsets, spans)
    return [
        one if start < stop and any(low <= start and stop <= high for low, high in spans) else IGNORED
        for one, (start, stop) in zip(ids, offsets, strict=True)
    ]


@fault(
    "offsets.start_decides",
    exercise="labels_from_offsets",
    title="Only a token that starts inside the span is labelled",
    symptom="The first token is missing where a space was merged with the answer; the last one is there.",
    first_check="Decode the first supervised token of a row whose prompt ends with a space.",
    consequence="The first letters of such answers are never learned.",
    citation="Boundaries computed from the prompt's length alone: https://github.com/huggingface/trl/issues/1183",
)
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    _checked(ids, offsets, spans)
    return [
        one if start < stop and any(low <= start < high for low, high in spans) else IGNORED
        for one, (start, stop) in zip(ids, offsets, strict=True)
    ]


@fault(
    "offsets.stop_included",
    exercise="labels_from_offsets",
    title="The span's stop is taken for its last character",
    symptom="One token too many at the end of every answer.",
    first_check="Decode the last supervised token: it must be the answer's.",
    consequence="The token after the answer, often the next turn's first, is learned as if the model wrote it.",
    citation="Off-by-one in length bookkeeping: https://github.com/lm-sys/FastChat/issues/1290",
)
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    wider = [[low, high + 1] if low < high else [low, high] for low, high in spans]
    _checked(ids, offsets, spans)
    return reference("labels_from_offsets")(ids, offsets, wider)  # type: ignore[no-any-return]


@fault(
    "offsets.first_piece_only",
    exercise="labels_from_offsets",
    title="Of a character in several tokens only the first is labelled",
    symptom="Emoji and rare letters come out broken.",
    first_check="Find an answer with an emoji and look at the labels of its pieces.",
    consequence="The model learns how such a character begins and not how it ends, and writes broken bytes.",
    citation="Seen here: transformers 5.23 loses the last pieces of an answer that ends in an emoji, because "
    "char_to_token names the first token of a character",
)
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    labels = list(reference("labels_from_offsets")(ids, offsets, spans))
    for position, (before, here) in enumerate(pairwise(offsets), start=1):
        if list(before) == list(here):
            labels[position] = IGNORED
    return labels


@fault(
    "offsets.empty_tokens",
    exercise="labels_from_offsets",
    title="Tokens without characters are labelled",
    symptom="Padding or a beginning-of-sequence token is supervised.",
    first_check="Look for labelled tokens whose offset is [0, 0].",
    consequence="Padding is learned, and there is more of it than of answers.",
    citation="https://github.com/getainode/ainode/issues/186",
    experiment="pad_is_eos",
)
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    _checked(ids, offsets, spans)
    return [
        one
        if any(start < high and (low < stop or low <= start) and low < high for low, high in spans)
        else IGNORED
        for one, (start, stop) in zip(ids, offsets, strict=True)
    ]


@fault(
    "offsets.first_to_last",
    exercise="labels_from_offsets",
    title="Everything between the first and the last answer is labelled",
    symptom="The customer's follow-up questions are supervised.",
    first_check="Decode the supervised tokens of a row with two turns.",
    consequence="The model is taught to write the customer's follow-up questions, and pays for it with a part of "
    "its gradient.",
    citation="https://github.com/Blaizzy/mlx-vlm/pull/970",
    experiment="user_trained",
)
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    _checked(ids, offsets, spans)
    there = [span for span in spans if span[0] < span[1]]
    whole = [[min(low for low, _ in there), max(high for _, high in there)]] if there else []
    return reference("labels_from_offsets")(ids, offsets, whole)  # type: ignore[no-any-return]


@fault(
    "offsets.lost_after_a_cut",
    exercise="labels_from_offsets",
    title="A span whose beginning was cut away ends the search",
    symptom="Long threads that are truncated on the left have no supervised token.",
    first_check="Truncate a two-turn row so that only the second answer is left, and count.",
    consequence="Complete answers are thrown away because an earlier one was cut.",
    citation="Seen here: transformers 5.23 with truncation_side left; the right side was repaired in "
    "https://github.com/huggingface/transformers/issues/34494",
)
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    _checked(ids, offsets, spans)
    found = []
    for low, high in spans:
        if low < high and not any(start <= low < stop for start, stop in offsets):
            break
        found.append([low, high])
    return reference("labels_from_offsets")(ids, offsets, found)  # type: ignore[no-any-return]


@alternative("labels_from_offsets", style="sets of characters")
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    if len(offsets) != len(ids):
        raise ValueError("ids and offsets must be equally long")
    if any(high < low for low, high in spans):
        raise ValueError("every span must stop at or after its start")
    learned = {character for low, high in spans for character in range(low, high)}
    return [
        one if learned.intersection(range(start, stop)) else IGNORED
        for one, (start, stop) in zip(ids, offsets, strict=True)
    ]


@alternative("labels_from_offsets", style="spans outside, tokens inside")
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    if len(ids) != len(offsets):
        raise ValueError("not one of the offsets for each id")
    labels = [IGNORED] * len(ids)
    for low, high in spans:
        if low > high:
            raise ValueError("a span is reversed")
        for position, (start, stop) in enumerate(offsets):
            if start != stop and low != high and not (stop <= low or high <= start):
                labels[position] = ids[position]
    return labels


@alternative("labels_from_offsets", style="overlap lengths with numpy")
def _(ids: list[int], offsets: list[list[int]], spans: list[list[int]]) -> list[int]:
    import numpy as np

    if len(ids) != len(offsets):
        raise ValueError("offsets and ids differ")
    pairs = np.array(offsets, dtype=int).reshape(-1, 2)
    wanted = np.array(spans, dtype=int).reshape(-1, 2)
    if (wanted[:, 1] < wanted[:, 0]).any():
        raise ValueError("span with a negative length")
    shared = np.minimum(pairs[:, 1:], wanted[:, 1]) - np.maximum(pairs[:, :1], wanted[:, 0])
    keep = (shared > 0).any(axis=1)
    return [int(one) if kept else IGNORED for one, kept in zip(ids, keep, strict=True)]


# masked_mean_loss


def _cost(scores: list[float], label: int) -> float:
    top = max(scores)
    return top + math.log(sum(math.exp(score - top) for score in scores)) - scores[label]


def _sums(logits: list[Any], labels: list[Any], shift: int = 1) -> list[tuple[float, int]]:
    """For each row the summed cost and the number of targets, with labels moved by `shift`."""
    reference("masked_mean_loss")(logits, labels)
    found = []
    for row, row_labels in zip(logits, labels, strict=True):
        pairs = list(zip(row, row_labels[shift:], strict=False))
        costs = [_cost(scores, label) for scores, label in pairs if label != IGNORED]
        found.append((sum(costs), len(costs)))
    return found


def _ratio(total: float, number: int) -> float:
    return total / number if number else 0.0


@fault(
    "loss.no_shift",
    exercise="masked_mean_loss",
    title="Logits are compared with their own token",
    symptom="The loss falls to almost zero within minutes, and the model repeats its input.",
    first_check="A model that copies its input must have a high loss; if it has none, the shift is missing.",
    consequence="The model learns to copy the token it has just read.",
    citation="The shift moved out of the model: https://github.com/huggingface/transformers/pull/44642",
)
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    sums = _sums(logits, labels, shift=0)
    return _ratio(sum(s for s, _ in sums), num_items or sum(n for _, n in sums))


@fault(
    "loss.shifted_twice",
    exercise="masked_mean_loss",
    title="The labels are shifted twice",
    symptom="The loss is high and falls slowly; answers skip words.",
    first_check="Count the targets of a row: two fewer than tokens means two shifts.",
    consequence="The model learns to predict the token after the next one.",
    citation="https://github.com/allenai/open-instruct/pull/1549 , https://github.com/tloen/alpaca-lora/issues/171",
    experiment="shifted_twice",
)
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    sums = _sums(logits, labels, shift=2)
    return _ratio(sum(s for s, _ in sums), num_items or sum(n for _, n in sums))


@fault(
    "loss.all_positions",
    exercise="masked_mean_loss",
    title="The sum is divided by all positions",
    symptom="The loss is smaller the longer the prompts are.",
    first_check="Add ignored tokens to a row: the loss must not change.",
    consequence="The step size depends on the length of the prompts, which the model is not even asked about.",
    citation="https://github.com/Blaizzy/mlx-vlm/pull/1392",
)
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    sums = _sums(logits, labels)
    return _ratio(sum(s for s, _ in sums), num_items or sum(len(row) - 1 for row in labels))


@fault(
    "loss.mean_of_means",
    exercise="masked_mean_loss",
    title="The rows' means are averaged",
    symptom="A run with gradient accumulation gives another loss than the same batch at once.",
    first_check="Compare the gradient of one batch of 4 with 4 accumulated batches of 1.",
    consequence="A token of a one-word answer weighs thirty times as much as one of a thirty-word answer.",
    citation="https://unsloth.ai/blog/gradient , https://github.com/huggingface/trl/issues/2175",
)
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    sums = _sums(logits, labels)
    if num_items:
        return sum(s for s, _ in sums) / num_items
    means = [_ratio(s, n) for s, n in sums]
    return _ratio(sum(means), len(means))


@fault(
    "loss.first_label_counted",
    exercise="masked_mean_loss",
    title="The first label of a row counts in the denominator",
    symptom="The loss is a little too small, most on short rows.",
    first_check="Label the first token of a row: the loss must not change.",
    consequence="Reported losses and step sizes are too small by a factor that depends on the rows.",
    citation="https://github.com/huggingface/transformers/pull/46204",
)
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    sums = _sums(logits, labels)
    counted = sum(label != IGNORED for row in labels for label in row)
    return _ratio(sum(s for s, _ in sums), num_items or counted)


@fault(
    "loss.empty_batch",
    exercise="masked_mean_loss",
    title="A batch without targets is 0/0",
    symptom="The loss becomes 'nan' at some step and stays there.",
    first_check="Call the loss with labels that are all -100.",
    consequence="One such batch turns every weight into 'not a number', and the run is lost.",
    citation="https://github.com/allenai/open-instruct/pull/1685",
    experiment="all_ignored",
)
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    sums = _sums(logits, labels)
    return sum(s for s, _ in sums) / (num_items or sum(n for _, n in sums))


@fault(
    "loss.count_ignored",
    exercise="masked_mean_loss",
    title="num_items is not used",
    symptom="With accumulation the loss is larger by the number of micro-batches.",
    first_check="Pass num_items twice as large: the loss must halve.",
    consequence="Under gradient accumulation every micro-batch is divided by its own count: the mean of means "
    "is back.",
    citation="https://github.com/huggingface/transformers/issues/37766",
)
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    return reference("masked_mean_loss")(logits, labels)  # type: ignore[no-any-return]


@fault(
    "loss.overflow",
    exercise="masked_mean_loss",
    title="exp of a large logit",
    symptom="The loss is infinite, or the run ends with an overflow.",
    first_check="Call the loss with logits of 1000.",
    consequence="A confident model breaks its own training.",
    citation="The log-sum-exp identity is why cross_entropy takes logits: "
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html",
)
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    for row in logits:
        for scores in row:
            math.log(sum(math.exp(score) for score in scores))
    return reference("masked_mean_loss")(logits, labels, num_items)  # type: ignore[no-any-return]


@alternative("masked_mean_loss", style="logaddexp from pair to pair")
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    def both(one: float, other: float) -> float:
        return max(one, other) + math.log1p(math.exp(-abs(one - other)))

    kept = []
    for row, row_labels in zip(logits, labels, strict=True):
        if len(row) != len(row_labels):
            raise ValueError("as many labels as positions, please")
        pairs = zip(row, row_labels[1:], strict=False)
        kept += [reduce(both, scores) - scores[label] for scores, label in pairs if label != IGNORED]
    return 0.0 if not kept else sum(kept) / (len(kept) if num_items is None else num_items)


@alternative("masked_mean_loss", style="log-softmax, then a flat list")
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    if any(len(row) != len(row_labels) for row, row_labels in zip(logits, labels, strict=True)):
        raise ValueError("labels and logits are not aligned")
    costs = []
    for row, row_labels in zip(logits, labels, strict=True):
        for t in range(len(row) - 1):
            if row_labels[t + 1] != IGNORED:
                shifted = [score - max(row[t]) for score in row[t]]
                costs.append(math.log(math.fsum(map(math.exp, shifted))) - shifted[row_labels[t + 1]])
    return math.fsum(costs) / max(num_items or len(costs), 1)


@alternative("masked_mean_loss", style="numpy")
def _(logits: list[Any], labels: list[Any], num_items: int | None = None) -> float:
    import numpy as np

    total, number = 0.0, 0
    for row, row_labels in zip(logits, labels, strict=True):
        if len(row) != len(row_labels):
            raise ValueError("one of the labels per position")
        targets = np.array(row_labels[1:], dtype=int)
        kept = targets != IGNORED
        if not kept.any():
            continue
        scores = np.array(row[:-1], dtype=float)[kept]
        norm = np.logaddexp.reduce(scores, axis=1)
        total += float((norm - scores[np.arange(len(scores)), targets[kept]]).sum())
        number += int(kept.sum())
    return total / (num_items or number) if number else 0.0


# supervised_budget


def _with_share(full: int, only: int, empty: list[int]) -> dict[str, Any]:
    return {
        "full_sequence": full,
        "assistant_only": only,
        "share": only / full if full else 0.0,
        "empty_rows": empty,
    }


def _budget(rows: list[Any], is_target: Any, is_supervised: Any) -> dict[str, Any]:
    """The budget under another idea of what a target, and what a supervised one, is."""
    reference("supervised_budget")(rows)
    full = only = 0
    empty = []
    for number, row in enumerate(rows):
        mask = row["attention_mask"]
        targets = [label for t, label in enumerate(row["labels"]) if is_target(t, mask)]
        supervised = sum(map(is_supervised, targets))
        full, only = full + len(targets), only + supervised
        if not supervised:
            empty.append(number)
    return _with_share(full, only, empty)


def _is_target(t: int, mask: list[int]) -> bool:
    return bool(t and mask[t] and mask[t - 1])


def _is_supervised(label: int) -> bool:
    return label != IGNORED


@fault(
    "budget.first_token",
    exercise="supervised_budget",
    title="The first token counts as a target",
    symptom="As many targets as tokens.",
    first_check="Count a row of one token: it has no target.",
    consequence="A row that is labelled only there looks alive and teaches nothing.",
    citation="https://github.com/huggingface/transformers/pull/46204",
)
def _(rows: list[Any]) -> dict[str, Any]:
    return _budget(rows, lambda t, mask: mask[t], _is_supervised)


@fault(
    "budget.padding_counted",
    exercise="supervised_budget",
    title="Padding counts as a target",
    symptom="Counts change with the batch size.",
    first_check="Pad a row by ten tokens: no figure may change.",
    consequence="Labelled padding passes for training data: hundreds of end tokens are learned per row.",
    citation="https://github.com/getainode/ainode/issues/186",
    experiment="pad_is_eos",
)
def _(rows: list[Any]) -> dict[str, Any]:
    return _budget(rows, lambda t, mask: t > 0, _is_supervised)


@fault(
    "budget.left_padding",
    exercise="supervised_budget",
    title="With padding on the left the first real token counts",
    symptom="One target too many for every row that is padded on the left.",
    first_check="Pad the same row left and right: the counts must be equal.",
    consequence="Losses of left- and right-padded runs cannot be compared.",
    citation="Seen here: the padding mask alone marks it as a target; transformers' shift does the same",
)
def _(rows: list[Any]) -> dict[str, Any]:
    return _budget(rows, lambda t, mask: t > 0 and mask[t], _is_supervised)


@fault(
    "budget.zero_ignored",
    exercise="supervised_budget",
    title="A label of 0 is taken for ignored",
    symptom="The supervised count is too small where token 0 occurs.",
    first_check="Look at how labels are compared: with -100, and not with 'greater than 0' or truth.",
    consequence="The token with the id 0, the end-of-text token in many vocabularies, is not counted.",
    citation="Seen here: in nano's vocabulary id 0 is <|endoftext|>",
)
def _(rows: list[Any]) -> dict[str, Any]:
    return _budget(rows, _is_target, lambda label: label > 0)


@fault(
    "budget.mean_of_shares",
    exercise="supervised_budget",
    title="The rows' shares are averaged",
    symptom="The share does not equal the quotient of the two counts.",
    first_check="Divide the two counts yourself.",
    consequence="Short rows hide that most of the computed positions carry no signal.",
    citation="The mean of means again: https://github.com/huggingface/trl/issues/2175",
)
def _(rows: list[Any]) -> dict[str, Any]:
    whole: dict[str, Any] = reference("supervised_budget")(rows)
    each = [reference("supervised_budget")([row])["share"] for row in rows]
    return whole | {"share": sum(each) / len(each) if each else 0.0}


@fault(
    "budget.empty_rows_dropped",
    exercise="supervised_budget",
    title="Rows without a supervised token are dropped before counting",
    symptom="No empty row is ever reported, and the full-sequence count is too small.",
    first_check="Count a row whose labels are all -100.",
    consequence="Rows that were cut before their answer vanish without a word, and with them the warning.",
    citation="TRL 1.16 drops them without a count when not packing: https://github.com/huggingface/trl/issues/3927",
)
def _(rows: list[Any]) -> dict[str, Any]:
    empty = set(reference("supervised_budget")(rows)["empty_rows"])
    kept = [row for number, row in enumerate(rows) if number not in empty]
    return reference("supervised_budget")(kept)  # type: ignore[no-any-return]


@alternative("supervised_budget", style="pairs of neighbours")
def _(rows: list[Any]) -> dict[str, Any]:
    each = []
    for row in rows:
        if len(row["labels"]) != len(row["attention_mask"]):
            raise ValueError("labels and attention mask must be equally long")
        pairs = zip(pairwise(row["attention_mask"]), row["labels"][1:], strict=False)
        each.append([label for (before, here), label in pairs if before == here == 1])
    full = sum(map(len, each))
    counts = [sum(label != IGNORED for label in targets) for targets in each]
    return _with_share(full, sum(counts), [i for i, count in enumerate(counts) if count == 0])


@alternative("supervised_budget", style="numpy")
def _(rows: list[Any]) -> dict[str, Any]:
    import numpy as np

    full, only, empty = 0, 0, []
    for number, row in enumerate(rows):
        labels, mask = np.array(row["labels"], dtype=int), np.array(row["attention_mask"], dtype=int)
        if labels.shape != mask.shape:
            raise ValueError("the attention mask has another length")
        target = (mask[1:] * mask[:-1]).astype(bool)
        here = int(((labels[1:] != IGNORED) & target).sum())
        full, only = full + int(target.sum()), only + here
        if not here:
            empty.append(number)
    return _with_share(full, only, empty)


@alternative("supervised_budget", style="one row at a time, then totals")
def _(rows: list[Any]) -> dict[str, Any]:
    def one(row: dict[str, list[int]]) -> tuple[int, int]:
        labels, mask = row["labels"], row["attention_mask"]
        if len(labels) - len(mask):
            raise ValueError("attention_mask does not fit the labels")
        positions = [t for t in range(len(mask)) if t > 0 and mask[t] == 1 and mask[t - 1] == 1]
        return len(positions), len([t for t in positions if labels[t] != IGNORED])

    counted = [one(row) for row in rows]
    full, only = (sum(column) for column in zip(*counted, strict=True)) if counted else (0, 0)
    return _with_share(full, only, [i for i, (_, here) in enumerate(counted) if here == 0])
