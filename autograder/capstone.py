"""The three broken pipelines of lab 08 and their control, recorded while `nano` was really trained with them.

python -m autograder.capstone               # four trainings, about a minute on 2 CPU cores
python -m autograder.capstone --project     # only the ready copy of the sealed-return project

A recording holds what one has of a run that went wrong: the rows as files, the windows as they reached the
optimiser, the loss, and what the trained model answers. Which fault was switched on stands in `PIPELINES`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autograder.atomic_write import write_atomically
from autograder.checks.reference import reference
from autograder.labs import ROOT
from chatcontract.evaluate import evaluate, generate_answers
from chatcontract.experiments import transforms
from chatcontract.experiments.serving import KEPT_TOKENS
from chatcontract.experiments.training import Training, train
from chatcontract.models import load_model, load_tokenizer
from chatcontract.nano.cases import eval_cases, training_rows

FOLDER = ROOT / "assets" / "capstone"
FILE = FOLDER / "pipelines.json"
PROJECT = FOLDER / "sealed_return.json"
ROWS, SHOWN, CASES, SEED = 400, 24, 200, 0

_CORRECT = Training(rows=ROWS)
_CUT = (("max_length", KEPT_TOKENS), ("truncation_mode", "keep_end"))
PIPELINES = {
    "control": _CORRECT,
    "A": replace(_CORRECT, label_transform=transforms.shifted_before_the_model_shifts),
    "B": replace(_CORRECT, options=_CUT),
    "C": replace(_CORRECT, row_transform=transforms.UnsupportedAnswers(0.66)),
}
SEALED = [
    {
        "role": "system",
        "content": "Use only the supplied policy evidence.\n\nEvidence: Sealed return: return the item "
        "within 14 days of delivery and attach the return label. A refund is paid after inspection only.",
    },
    {"role": "user", "content": "I never opened the box. How do I return it?"},
]


class _Recorder:
    """A label transform that writes down what another one made of each row."""

    def __init__(self, then: transforms.LabelTransform | None) -> None:
        self.then = then
        self.windows: list[dict[str, list[int]]] = []

    def __call__(
        self, ids: Sequence[int], labels: Sequence[int], marks: transforms.Marks
    ) -> transforms.Prepared:
        made = self.then(ids, labels, marks) if self.then else (list(ids), list(labels))
        window = {"input_ids": made[0], "labels": made[1], "position_ids": list(range(len(made[0])))}
        self.windows.append(window)
        return made


def record(name: str) -> dict[str, Any]:
    """Train nano with one pipeline, measure it, and keep the first rows as they went in."""
    base, tokenizer = load_model("nano").eval(), load_tokenizer("nano")
    rows = training_rows(ROWS, SEED)
    taken: list[transforms.Chat] = []
    training = PIPELINES[name]

    def keep(chats: list[transforms.Chat], rng: Any) -> list[transforms.Chat]:
        taken[:] = training.row_transform(chats, rng) if training.row_transform else chats
        return taken

    recorder = _Recorder(training.label_transform)
    recorded = replace(training, row_transform=keep, label_transform=recorder)
    trained = train(base, tokenizer, rows, recorded, source="nano", seed=SEED)
    measured = evaluate(
        trained.model, tokenizer, eval_cases(CASES, SEED), max_new_tokens=48, batch_size=50, progress=False
    )
    said = generate_answers(trained.model, tokenizer, [SEALED], max_new_tokens=48, progress=False)[0]
    ids = tokenizer.convert_tokens_to_ids
    return {
        "figures": {
            "rows": ROWS,
            "cases": CASES,
            "grounded_rate": measured.grounded_rate,
            "stop_rate": measured.stop_rate,
            "loss": round(trained.loss, 3),
        },
        "sealed_answer": said.text,
        "failures": [
            {field: answer[field] for field in ("evidence", "question", "text")}
            for answer in measured.records()
            if not (answer["grounded"] and answer["stopped"])
        ][:4],
        "recording": {
            "marks": {
                "turn_start": ids("<|im_start|>"),
                "turn_end": ids("<|im_end|>"),
                "chat_start": tokenizer.encode("<|im_start|>system\n", add_special_tokens=False),
                "answer_start": tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False),
            },
            "rows": [{"id": f"row-{number:03}", "messages": row} for number, row in enumerate(taken[:SHOWN])],
            "windows": recorder.windows[:SHOWN],
        },
    }


def write(path: Path = FILE) -> None:
    """Record all pipelines and write them as one file."""
    found = {name: record(name) for name in PIPELINES}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in found.items())
    write_atomically(path, f"{{\n{lines}\n}}\n".encode())
    for name, one in found.items():
        print(name, one["figures"], repr(one["sealed_answer"]))


def project() -> str:
    """The project of the solution notebook as JSON: what later cells use when a student has none yet."""
    return json.dumps(reference("08_capstone", "my_project")(), indent=1) + "\n"


if __name__ == "__main__":
    write_atomically(PROJECT, project().encode())
    if "--project" not in sys.argv[1:]:
        write()
