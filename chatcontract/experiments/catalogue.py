"""The experiments by name: what each one changes, and what one would expect of it before measuring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches

from chatcontract.experiments import serving, transforms
from chatcontract.experiments.training import Training

CORRECT = Training()
# Three windows hold about as many tokens as 16 rows, so that packed and separate runs take as many steps.
_PACKED = replace(CORRECT, batch=3)
_FEW = replace(CORRECT, rows=60, batch=8)
_FULL_RATE = 1e-3


@dataclass(frozen=True)
class Experiment:
    """One row of the table.

    Attributes:
        group: heading under which it is shown.
        title: one line.
        changed: what is different from the correct pipeline.
        expectation: what should happen, as said before the measurement.
        training: how the model is trained; None measures the base model.
        serving: how it is asked.
    """

    name: str
    group: str
    title: str
    changed: str
    expectation: str
    training: Training | None = CORRECT
    serving: serving.Serving = serving.CORRECT

    def __str__(self) -> str:
        return f"{self.title}. Changed: {self.changed} Expected: {self.expectation}"


REFERENCE, LABELS, SERVING, ROWS, LENGTH, QUANTISED = (
    "Reference",
    "Labels",
    "Serving",
    "Packing, truncation, rows",
    "60 rows: epochs and defences",
    "4 bit",
)


def _labels(transform: transforms.LabelTransform) -> Training:
    return replace(CORRECT, label_transform=transform)


def _unsupported(share: float) -> Training:
    return replace(CORRECT, row_transform=transforms.UnsupportedAnswers(share))


_ALL = (
    Experiment(
        "base",
        REFERENCE,
        "Base model, not trained",
        "no fine-tuning at all.",
        "it goes on with the thread, neither grounded nor stopping.",
        training=None,
    ),
    Experiment(
        "correct",
        REFERENCE,
        "Correct pipeline",
        "nothing: LoRA, assistant-only loss, one epoch, the template with its generation prompt.",
        "grounded and stopping.",
    ),
    Experiment(
        "eot_masked",
        LABELS,
        "End of turn masked",
        "no label on <|im_end|>.",
        "right words, then no stop.",
        _labels(transforms.without_turn_end),
    ),
    Experiment(
        "pad_is_eos",
        LABELS,
        "Pad token is the end-of-turn token",
        "transformers' language modelling collator makes the labels and ignores every pad id.",
        "the end of turn is ignored with the padding: no stop.",
        replace(CORRECT, pad_is_eos=True),
    ),
    Experiment(
        "user_trained",
        LABELS,
        "Customer's words trained too",
        "labels on the user turn as well as on the assistant's.",
        "little harm to the answers: the cue still says whose turn it is.",
        _labels(transforms.with_user_turns),
    ),
    Experiment(
        "full_sequence",
        LABELS,
        "Full-sequence loss",
        "assistant_only_loss=False: every token carries a label.",
        "a choice, not an error: close to the correct pipeline.",
        replace(CORRECT, options=(("assistant_only_loss", False),)),
    ),
    Experiment(
        "shifted_twice",
        LABELS,
        "Labels shifted twice",
        "labels moved one to the left before the model shifts them itself.",
        "the model learns the token after next: garbled answers.",
        _labels(transforms.shifted_before_the_model_shifts),
    ),
    Experiment(
        "one_early",
        LABELS,
        "Mask one token early",
        "the supervised span moved one token to the left.",
        "the end of turn falls out of the span: no stop.",
        _labels(transforms.mask_one_early),
    ),
    Experiment(
        "one_late",
        LABELS,
        "Mask one token late",
        "the supervised span moved one token to the right.",
        "the first word of an answer is never taught.",
        _labels(transforms.mask_one_late),
    ),
    Experiment(
        "all_ignored",
        LABELS,
        "All labels ignored",
        "every label is -100.",
        "loss 0 and a model that is still the base model.",
        _labels(transforms.nothing_supervised),
    ),
    Experiment(
        "one_bos",
        SERVING,
        "One BOS in training and serving",
        "every row and every prompt starts with one beginning-of-sequence token: the control of doubled_bos.",
        "as good as the correct pipeline.",
        _labels(transforms.with_bos),
        serving.ONE_BOS,
    ),
    Experiment(
        "doubled_bos",
        SERVING,
        "Doubled BOS at serving",
        "rows start with one beginning-of-sequence token, prompts with two.",
        "a small loss, if any.",
        _labels(transforms.with_bos),
        serving.TWO_BOS,
    ),
    Experiment(
        "wrong_wrapper",
        SERVING,
        "Another family's wrapper at serving",
        "prompts in Mistral's [INST] frame.",
        "the model does not know whose turn it is.",
        serving=serving.MISTRAL_WRAPPER,
    ),
    Experiment(
        "no_cue",
        SERVING,
        "No generation prompt at serving",
        "add_generation_prompt=False.",
        "something else than the answer comes next.",
        serving=serving.NO_CUE,
    ),
    Experiment(
        "prefill",
        SERVING,
        "Prefill alone",
        f"the answer starts with the given words '{serving.PREFILL}': the control of prefill_and_cue.",
        "the model goes on from there.",
        serving=serving.PREFILLED,
    ),
    Experiment(
        "prefill_and_cue",
        SERVING,
        "Prefill and generation prompt together",
        "the prefill is closed as a finished answer and a second answer is opened.",
        "the model starts again behind the prefill: the customer reads both, whatever the rates say.",
        serving=serving.PREFILL_AND_CUE,
    ),
    Experiment(
        "serving_truncated",
        SERVING,
        "Evidence cut off at serving",
        f"only the last {serving.KEPT_TOKENS} tokens of the prompt are sent.",
        "a fluent answer with invented facts.",
        serving=serving.LAST_TOKENS,
    ),
    Experiment(
        "packed",
        ROWS,
        "Packed with isolation",
        "packing=True, strategy bfd: rows share a window but do not see each other.",
        "as good as the correct pipeline.",
        replace(_PACKED, options=(("packing", True), ("packing_strategy", "bfd"))),
    ),
    Experiment(
        "packed_unisolated",
        ROWS,
        "Packed without isolation",
        "packing=True, strategy wrapped: rows see the rows before them and are cut at window borders.",
        "little harm in short training.",
        replace(_PACKED, options=(("packing", True), ("packing_strategy", "wrapped"))),
    ),
    Experiment(
        "evidence_truncated",
        ROWS,
        "Evidence cut off in training",
        f"rows keep their last {serving.KEPT_TOKENS} tokens, so most of the evidence is gone.",
        "the model learns to answer without evidence: to invent.",
        replace(CORRECT, options=(("max_length", serving.KEPT_TOKENS), ("truncation_mode", "keep_end"))),
    ),
    Experiment(
        "unsupported_05",
        ROWS,
        "5 % unsupported rows",
        "one answer in twenty is another row's.",
        "no visible loss with greedy decoding.",
        _unsupported(0.05),
    ),
    Experiment(
        "unsupported_20",
        ROWS,
        "20 % unsupported rows",
        "one answer in five is another row's.",
        "some loss.",
        _unsupported(0.2),
    ),
    Experiment(
        "unsupported_50",
        ROWS,
        "50 % unsupported rows",
        "every second answer is another row's.",
        "a clear loss.",
        _unsupported(0.5),
    ),
    Experiment(
        "epochs_2",
        LENGTH,
        "60 rows, 2 epochs",
        "60 rows instead of 800, twice.",
        "the form is learned, the copying not fully.",
        replace(_FEW, epochs=2),
    ),
    Experiment(
        "epochs_10",
        LENGTH,
        "60 rows, 10 epochs",
        "60 rows, ten times.",
        "better answers, some forgetting of general text.",
        replace(_FEW, epochs=10),
    ),
    Experiment(
        "epochs_30",
        LENGTH,
        "60 rows, 30 epochs",
        "60 rows, thirty times.",
        "training loss near 0: rows are memorised, general text is forgotten.",
        replace(_FEW, epochs=30),
    ),
    Experiment(
        "full_finetune",
        LENGTH,
        "60 rows, 10 epochs, every weight",
        f"no adapter: all weights are trained, at rate {_FULL_RATE:g}.",
        "more forgetting than LoRA with the same rows.",
        replace(_FEW, epochs=10, rank=None, rate=_FULL_RATE),
    ),
    Experiment(
        "replay",
        LENGTH,
        "60 rows, 10 epochs, replay",
        "as many pretraining documents as rows are mixed in.",
        "less forgetting.",
        replace(_FEW, epochs=10, batch=16, replay=1.0),
    ),
    Experiment(
        "low_rate",
        LENGTH,
        "60 rows, 2 epochs, low rate",
        "two epochs at a tenth of the rate.",
        "hardly any forgetting, and hardly any learning.",
        replace(_FEW, epochs=2, rate=3e-4),
    ),
    Experiment(
        "four_bit",
        QUANTISED,
        "4-bit base (NF4)",
        "the correct pipeline on 4-bit weights; the adapter is judged on the unquantised model.",
        "as good as the correct pipeline.",
        replace(CORRECT, quantised=True),
    ),
    Experiment(
        "four_bit_after_eval",
        QUANTISED,
        "4-bit base after an eval-mode forward",
        "one forward pass in eval mode before the first step, without the course's protection.",
        "on a CPU with AVX512-BF16 the stored weights are rearranged and the adapter learns around them.",
        replace(CORRECT, quantised=True, eval_first=True),
    ),
)

EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in _ALL}


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: unknown name; the sentence suggests the nearest one.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    near = get_close_matches(name, EXPERIMENTS, n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"There is no experiment '{name}'.{hint} Experiments: {', '.join(EXPERIMENTS)}.")
