"""How fast the reference answers of labs 02 and 03 are, next to plain Python in the same run.

`python -m autograder.bench_rows` validates a large JSON Lines file line by line, then validates, filters and
de-duplicates generated rows with the answers of the solution notebooks. The plain-Python baseline compares
every pair of rows and is too slow for all of them: it runs on a stated subsample, and what it would take for
all rows is called an extrapolation. Real data beside the repository is judged too where it is present.
"""

import gc
import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from autograder.checks.reference import definitions
from autograder.labs import ROOT
from chatcontract.course_files import asset

SEED = 20250601
REAL_DATA = ROOT.parent / "shared" / "data"

Row = dict[str, Any]

_OPENERS = ("", "Hello. ", "Hi, I need help. ", "Good morning! ", "One question: ", "It is urgent. ")
_CLOSERS = ("", " Thanks.", " Please answer soon.", " I am waiting.", " Best regards", " It is order {n}.")


@dataclass
class Measured:
    """What one piece of work took: seconds, and megabytes of resident memory on top of what was there."""

    rows: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0
    result: Any = field(default=None, repr=False)

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


@contextmanager
def _sampled(measured: Measured) -> Iterator[None]:
    process, stop = psutil.Process(), threading.Event()
    gc.collect()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.02):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started = time.perf_counter()
    try:
        yield
    finally:
        measured.seconds = time.perf_counter() - started
        stop.set()
        watcher.join()
        measured.megabytes = (max(highest, process.memory_info().rss) - before) / 1e6


def measure(rows: int, work: Callable[[], Any]) -> Measured:
    """Run `work` once and measure it."""
    measured = Measured(rows)
    with _sampled(measured):
        measured.result = work()
    return measured


def generated_rows(
    count: int, policies: dict[str, Any], questions: dict[str, Any], seed: int = SEED
) -> list[Row]:
    """Rows as a template generator makes them: many alike, one in ten without a required fact.

    Args:
        policies: lab 03's evidence by id.
        questions: by topic, "questions" and "answers" as in policies.yaml.
    """
    rng = random.Random(seed)
    topics = [name for name in policies if name in questions]
    rows = []
    for number in range(count):
        name = topics[number % len(topics)]
        policy, texts = policies[name], questions[name]
        answer = rng.choice(texts["answers"]) if rng.random() < 0.9 else "Please contact support."
        question = rng.choice(_OPENERS) + rng.choice(texts["questions"]) + rng.choice(_CLOSERS)
        contents = {
            "system": f"Use only the supplied policy evidence.\n\nEvidence: {policy['clause']}",
            "user": question.format(n=rng.randint(10_000, 99_999)),
            "assistant": answer,
        }
        rows.append(
            {
                "id": f"generated-{number:07d}",
                "source": "synthetic",
                "policy_id": name,
                "policy_version": policy["version"],
                "messages": [{"role": role, "content": text} for role, text in contents.items()],
                "tokens": 70,
            }
        )
    return rows


def spoiled(line: str, number: int) -> str:
    """One line in twenty is broken, in one of four ways."""
    if number % 20:
        return line
    kinds = (line[: len(line) // 2], "", line.replace('"role": "user"', '"role": "human"'), "[]")
    return kinds[number // 20 % len(kinds)]


def write_lines(path: Path, rows: Sequence[Row], megabytes: int) -> int:
    """Write rows again and again until the file has that many megabytes; the number of lines."""
    texts = [spoiled(json.dumps(row, ensure_ascii=False), number) + "\n" for number, row in enumerate(rows)]
    written = lines = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        while written < megabytes * 1_000_000:
            for text in texts:
                written += file.write(text)
                lines += 1
    return lines


def plain_similarity(one: Sequence[str], other: Sequence[str]) -> float:
    """ROUGE-L, F-measure, by the textbook's table of the longest common subsequence, in plain Python."""
    previous = [0] * (len(other) + 1)
    for word in one:
        row = [0]
        for column, rival in enumerate(other):
            row.append(previous[column] + 1 if word == rival else max(row[-1], previous[column + 1]))
        previous = row
    return 2 * previous[-1] / (len(one) + len(other)) if one or other else 1.0


def plain_duplicates(rows: Sequence[Row], words: Callable[[str], list[str]], threshold: float) -> list[str]:
    """Ids of the rows that are kept, by the rule of lab 03, from the similarities of all pairs."""
    rows = sorted(rows, key=lambda row: row["id"])
    said = [words(row["messages"][1]["content"]) for row in rows]
    like = [[plain_similarity(one, other) for other in said[:at]] for at, one in enumerate(said)]
    kept: list[int] = []
    for at, row in enumerate(rows):
        rivals = (other for other in kept if rows[other]["policy_id"] == row["policy_id"])
        if all(like[at][other] < threshold for other in rivals):
            kept.append(at)
    return [rows[at]["id"] for at in kept]


def as_chats(path: Path) -> list[list[Row]]:
    """The chats of a file of real data, in the roles in which they came."""
    text = path.read_text(encoding="utf-8")
    records = (
        [json.loads(line) for line in text.split("\n") if line]
        if path.suffix == ".jsonl"
        else json.loads(text)
    )
    return [_chat(record) for record in records]


def _chat(record: Row) -> list[Row]:
    if "traj" in record:
        return list(record["traj"])
    if "conversations" in record:
        return [{"role": m["from"], "content": m["value"]} for m in record["conversations"]]
    question = record.get("question") or " ".join(
        filter(None, (record.get("instruction"), record.get("input")))
    )
    instances = record.get("instances") or [{}]
    answer = record.get("answer") or record.get("response") or instances[0].get("output")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _questions() -> dict[str, Any]:
    import yaml

    policies = yaml.safe_load(asset("shopflow/policies.yaml").read_text(encoding="utf-8"))["policies"]
    return {policy["id"]: policy for policy in policies}


def _say(console: Console, rows: Sequence[tuple[str, Measured, str]]) -> None:
    table = Table(
        "step", "rows", "seconds", "rows/s", "memory", "result", title="Memory is what each step added"
    )
    for name, measured, result in rows:
        memory = f"{measured.megabytes:,.0f} MB"
        rate = f"{measured.rate:,.0f}"
        table.add_row(name, f"{measured.rows:,}", f"{measured.seconds:.1f}", rate, memory, result)
    console.print(table)


def _all(errors_of: Callable[[list[Any]], list[Row]], chats: list[list[Row]]) -> list[list[Row]]:
    return [errors_of(chat) for chat in chats]


def _real(console: Console, folder: Path, errors_of: Callable[[list[Any]], list[Row]]) -> None:
    files = [path for path in sorted(folder.glob("*.json*")) if path.is_file()] if folder.is_dir() else []
    if not files:
        console.print(f"No real data in {folder}: that part is left out.")
        return
    table = Table("real data", "chats", "in order", "chats/s", "most frequent reason")
    for path in files:
        chats = as_chats(path)
        measured = measure(len(chats), partial(_all, errors_of, chats))
        reasons = Counter(errors[0]["reason"] for errors in measured.result if errors)
        worst = "; ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common(1)) or "none"
        fine = sum(not errors for errors in measured.result)
        table.add_row(path.name, f"{len(chats):,}", f"{fine:,}", f"{measured.rate:,.0f}", worst)
    console.print(table)


def main(
    rows: Annotated[int, typer.Option(min=100, help="Generated rows.")] = 50_000,
    megabytes: Annotated[int, typer.Option(min=1, help="Size of the generated file.")] = 200,
    sample: Annotated[int, typer.Option(min=10, help="Rows of the plain-Python baseline.")] = 400,
    threshold: Annotated[float, typer.Option(help="ROUGE-L from which two questions are alike.")] = 0.7,
    data: Annotated[Path, typer.Option(help="Folder with real data; none is fine.")] = REAL_DATA,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
) -> None:
    """Measure validation, filter and near-duplicates: rows per second, memory, ratio to plain Python."""
    console = Console()
    roles = definitions("02_roles", ("sort_file", "validate_jsonl", "conversation_errors"))
    names = ("grounding_errors", "row_risks", "near_duplicates", "words", "evidence", "REJECT")
    grounding = definitions("03_grounding", names)
    policies = grounding["evidence"]
    made = generated_rows(rows, policies, _questions())
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)

    def filtered() -> list[Row]:
        return [
            row
            for row in made
            if not grounding["grounding_errors"](row, policies)
            and not grounding["REJECT"] & {risk["risk"] for risk in grounding["row_risks"](row, policies)}
        ]

    with Progress(console=console, transient=True) as progress, tempfile.TemporaryDirectory() as folder:
        bar = progress.add_task("writing the file", total=6)

        def next_step(words: str) -> None:
            progress.update(bar, advance=1, description=words)

        source, keep, drop = (Path(folder) / name for name in ("rows.jsonl", "accepted", "quarantine"))
        lines = write_lines(source, made, megabytes)
        next_step(f"validating {megabytes} MB line by line")
        streamed = measure(lines, lambda: roles["sort_file"](source, keep, drop))
        next_step("validating the generated rows")
        validated = measure(rows, lambda: roles["validate_jsonl"](text))
        accepted_lines = len(validated.result["accepted"])
        validated.result = None
        next_step("filtering")
        kept = measure(rows, filtered)
        next_step("near-duplicates")
        unique = measure(len(kept.result), lambda: grounding["near_duplicates"](kept.result, threshold))
        next_step(f"near-duplicates of {sample} rows in plain Python")
        few = random.Random(SEED).sample(kept.result, min(sample, len(kept.result)))
        plain = measure(len(few), lambda: plain_duplicates(few, grounding["words"], threshold))
        same = measure(len(few), lambda: grounding["near_duplicates"](few, threshold))
        next_step("done")

    _say(
        console,
        [
            (f"validate {megabytes} MB by line", streamed, f"{streamed.result['accepted']:,} accepted"),
            ("validate in memory", validated, f"{accepted_lines:,} accepted"),
            ("grounding, risks", kept, f"{len(kept.result):,} kept"),
            ("near-duplicates", unique, f"{len(unique.result['kept']):,} kept"),
            ("sample: lab 03", same, f"{len(same.result['kept']):,} kept"),
            ("sample: plain Python", plain, f"{len(plain.result):,} kept"),
        ],
    )
    agree = plain.result == same.result["kept"]
    extrapolated = plain.seconds * (unique.rows / plain.rows) ** 2
    console.print(f"Same survivors as plain Python on the sample: {'yes' if agree else 'NO'}.")
    console.print(f"On the sample the lab's answer is {plain.seconds / same.seconds:,.0f} times faster.")
    console.print(
        f"Extrapolated, not measured: all pairs of {unique.rows:,} rows would take plain Python "
        f"{extrapolated / 3600:,.1f} hours, {extrapolated / unique.seconds:,.0f} times as long."
    )
    _real(console, data, roles["conversation_errors"])
    if out:
        steps = {"file": streamed, "validate": validated, "filter": kept, "near_duplicates": unique}
        steps |= {"sample": same, "plain_sample": plain}
        figures: Row = {
            name: {"rows": m.rows, "seconds": m.seconds, "rows_per_second": m.rate, "megabytes": m.megabytes}
            for name, m in steps.items()
        }
        figures |= {"ratio_on_sample": plain.seconds / same.seconds, "same_survivors": agree}
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if not agree:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
