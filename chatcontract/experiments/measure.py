"""Run one experiment: train as it says, ask as it says, and measure."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chatcontract.evaluate import Case, Evaluation, generate_from_text, judge_answer
from chatcontract.experiments.catalogue import Experiment, experiment
from chatcontract.experiments.results import ExperimentResult
from chatcontract.experiments.serving import Serving
from chatcontract.experiments.training import Trained, Training, cpu_repacks_4bit_weights, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_NEW_TOKENS = 48
GENERAL_DOCUMENTS = 120
UNSEEN_ROWS = 120
# No run trains on rows of this seed.
_UNSEEN_SEED = 1_000_000
_EVALUATION_SEED = 0
_KEPT_RUNS = 3

# Serving experiments share a training run; the last few runs of this process are kept for them.
_runs: OrderedDict[tuple[str, Training, int], Trained] = OrderedDict()


def run_experiment(
    name: str,
    *,
    seed: int = 0,
    cases: int = 200,
    rows: int | None = None,
    model: str | Path = "nano",
    progress: bool = True,
) -> ExperimentResult:
    """Train and serve `nano` as the named experiment says, and measure it on held-out cases.

    A training run takes about half a minute on 2 CPU cores. Experiments that differ only in serving use the
    run of the same seed that this process has done last.

    Args:
        name: one of `EXPERIMENTS`.
        seed: of the training rows, the adapter and the order of the rows.
        cases: how many held-out cases are answered.
        rows: train on fewer rows than the experiment asks for; never on more.
        model: a course name or a model folder with ChatML tokens and generation markers in its template.
        progress: draw progress bars.

    Raises:
        ValueError: unknown name (the sentence suggests the nearest one), or no cases or rows.
        FileNotFoundError: the course's model is missing.
    """
    chosen = experiment(name)
    if cases < 1 or (rows is not None and rows < 1):
        raise ValueError("An experiment needs at least one case and one row: leave cases and rows out.")
    from chatcontract.nano.cases import eval_cases
    from chatcontract.nano.corpus import held_out_documents
    from chatcontract.nano.perplexity import perplexity

    base, tokenizer = _load(model)
    trained = _trained(chosen, base, tokenizer, model, seed, rows, progress)
    tuned = trained.model if trained else base
    evaluation = _evaluate(
        tuned, tokenizer, eval_cases(cases, _EVALUATION_SEED), chosen.serving, progress=progress
    )
    return ExperimentResult(
        name=chosen.name,
        grounded_rate=evaluation.grounded_rate,
        stop_rate=evaluation.stop_rate,
        mean_tokens=evaluation.mean_tokens,
        loss=trained.loss if trained else None,
        answer_loss=answer_loss(tuned, tokenizer),
        perplexity=perplexity(tuned, tokenizer, held_out_documents(GENERAL_DOCUMENTS)),
        seconds=trained.seconds if trained else 0.0,
        steps=trained.steps if trained else 0,
        cases=cases,
        seed=seed,
        note=_note(chosen),
        examples=evaluation.records(),
    )


def _load(model: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from chatcontract.models import load_model, load_tokenizer

    return load_model(str(model)).eval(), load_tokenizer(str(model))


def _trained(
    chosen: Experiment,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model: str | Path,
    seed: int,
    rows: int | None,
    progress: bool,
) -> Trained | None:
    if chosen.training is None:
        return None
    training = chosen.training
    training = replace(training, rows=min(training.rows, rows or training.rows))
    key = (str(model), training, seed)
    if key not in _runs:
        from chatcontract.nano.cases import training_rows

        chats = training_rows(training.rows, seed)
        _runs[key] = train(base, tokenizer, chats, training, source=str(model), seed=seed, progress=progress)
        while len(_runs) > _KEPT_RUNS:
            _runs.popitem(last=False)
    _runs.move_to_end(key)
    return _runs[key]


def _evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    cases: Sequence[Case],
    serving: Serving,
    *,
    progress: bool,
) -> Evaluation:
    began = time.perf_counter()
    answers = generate_from_text(
        model,
        tokenizer,
        [serving.render(tokenizer, case.messages) for case in cases],
        max_new_tokens=MAX_NEW_TOKENS,
        batch_size=50,
        progress=progress,
    )
    answers = [replace(answer, text=f"{serving.shown} {answer.text}".strip()) for answer in answers]
    seconds = time.perf_counter() - began
    verdicts = tuple(judge_answer(a.text, c) for a, c in zip(answers, cases, strict=True))
    return Evaluation(tuple(cases), tuple(answers), verdicts, seconds)


def answer_loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: int = UNSEEN_ROWS) -> float:
    """Mean loss in nats of the reference answers' tokens, end of turn included, on unseen rows."""
    import torch

    from chatcontract.nano.cases import training_rows

    total, count = 0.0, 0
    for row in training_rows(rows, _UNSEEN_SEED):
        made = tokenizer.apply_chat_template(
            row, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
        )
        ids, taught = made["input_ids"], torch.as_tensor(made["assistant_masks"]).reshape(1, -1) == 1
        labels = ids.masked_fill(~taught, -100)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits
        total += torch.nn.functional.cross_entropy(
            logits[0, :-1].float(), labels[0, 1:], reduction="sum"
        ).item()
        count += int((labels[0, 1:] != -100).sum())
    return total / count if count else math.nan


def _note(chosen: Experiment) -> str:
    if chosen.training and chosen.training.eval_first and not cpu_repacks_4bit_weights():
        return "This CPU lacks AVX512-BF16, so nothing was rearranged: these are the figures of four_bit."
    return ""
