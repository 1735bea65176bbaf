"""What an experiment measured, and the committed figures of all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chatcontract.course_files import asset

RESULTS = "results/experiments.json"
EXAMPLES = 3


@dataclass(frozen=True)
class ExperimentResult:
    """The figures of one experiment.

    Attributes:
        grounded_rate: share of held-out cases answered with the facts of the evidence and nothing invented.
        stop_rate: share of answers that ended by themselves.
        mean_tokens: mean length of an answer.
        loss: training loss over the last tenth of the steps, in nats per token that carried a label. Faults
            change which tokens those are: compare `answer_loss` instead. None when nothing was trained.
        answer_loss: loss of the reference answers of unseen rows, end of turn included, under the correct
            template: nats per token, comparable between all experiments.
        perplexity: on general text from the pretraining corpus that no training has seen.
        seconds: of the training steps; 0 when nothing was trained.
        steps: optimiser steps.
        cases: how many held-out cases were answered.
        note: what a reader has to know about this measurement, or "".
        examples: some answers: evidence, question, text, stopped, grounded and more.
    """

    name: str
    grounded_rate: float
    stop_rate: float
    mean_tokens: float
    loss: float | None
    answer_loss: float
    perplexity: float
    seconds: float
    steps: int
    cases: int
    seed: int
    note: str = ""
    examples: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        loss = "   -" if self.loss is None else f"{self.loss:.2f}"
        line = (
            f"{self.name:<20} grounded {self.grounded_rate:.2f}  stop {self.stop_rate:.2f}  "
            f"tokens {self.mean_tokens:4.1f}  loss {loss}  answer loss {self.answer_loss:5.2f}  "
            f"perplexity {self.perplexity:5.2f}  {self.seconds:5.1f} s"
        )
        return f"{line}\n  {self.note}" if self.note else line

    def plain(self, examples: int = EXAMPLES) -> dict[str, Any]:
        """The figures, rounded, as JSON takes them, with the first few examples."""
        values = asdict(self)
        for name, value in values.items():
            if isinstance(value, float):
                values[name] = round(value, 4) if math.isfinite(value) else None
        return {**values, "examples": values["examples"][:examples]}


def saved_results(path: Path | None = None) -> dict[str, ExperimentResult]:
    """The committed figures by name, in the order of the table.

    Args:
        path: default is the course's own file.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is not a file of results.
    """
    path = path or asset(RESULTS)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["experiments"]
        results = [ExperimentResult(**entry) for entry in entries]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} is not a file of experiment results ({type(error).__name__}: {error}). "
            "Make it again with 'python3 course.py experiments'."
        ) from error
    return {result.name: result for result in results}


def write_results(path: Path, results: Iterable[ExperimentResult]) -> Path:
    """Write results with the machine and the versions they belong to; the file is never half written."""
    import os
    import platform
    from importlib.metadata import version

    from chatcontract.manifest import write_json

    libraries = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets")
    content = {
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "experiments": [result.plain() for result in results],
    }
    return write_json(path, content)
