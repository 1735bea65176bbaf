"""Experiments one after another; what comes out are the committed figures and their chart."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from chatcontract.course_files import assets_dir
from chatcontract.experiments.catalogue import EXPERIMENTS, experiment
from chatcontract.experiments.chart import Chart
from chatcontract.experiments.measure import run_experiment
from chatcontract.experiments.results import RESULTS, ExperimentResult, saved_results, write_results

CHART = "experiments.svg"


def results_folder() -> Path:
    """Where the course keeps its own figures."""
    return (assets_dir() / RESULTS).parent


def run_all(
    names: Sequence[str] = (),
    *,
    out: Path | None = None,
    seed: int = 0,
    cases: int = 200,
    rows: int | None = None,
    model: str = "nano",
) -> list[ExperimentResult]:
    """Run the named experiments, all of them for no name, and write figures and chart into `out`.

    The files are written after every experiment, each of them whole: what an interrupted call has measured is
    kept, and figures of experiments that are not named stay.

    Args:
        out: folder for experiments.json and experiments.svg; None writes nothing.

    Raises:
        ValueError: unknown name, or no cases or rows.
        FileNotFoundError: the course's model is missing.
    """
    chosen = [experiment(name) for name in names] or list(EXPERIMENTS.values())
    # Runs that differ only in serving follow each other, so that one training serves them all.
    first = {item.training: item for item in reversed(EXPERIMENTS.values())}
    place = {name: number for number, name in enumerate(EXPERIMENTS)}
    order = sorted(chosen, key=lambda item: (place[first[item.training].name], place[item.name]))
    began, measured = time.perf_counter(), []
    for number, item in enumerate(order, start=1):
        print(f"[{number}/{len(order)}, {_clock(time.perf_counter() - began)}] {item.title}", flush=True)
        progress = sys.stdout.isatty()
        result = run_experiment(item.name, seed=seed, cases=cases, rows=rows, model=model, progress=progress)
        print(result, flush=True)
        measured.append(result)
        if out:
            _write(out, result)
    print(f"{len(order)} experiments in {_clock(time.perf_counter() - began)}.")
    return measured


def _write(out: Path, result: ExperimentResult) -> None:
    figures, picture = out / Path(RESULTS).name, out / CHART
    known = saved_results(figures) if figures.is_file() else {}
    known[result.name] = result
    ordered = [known[name] for name in EXPERIMENTS if name in known]
    write_results(figures, ordered)
    staged = picture.with_name(f".{picture.name}.part")
    staged.write_text(Chart(ordered).svg, encoding="utf-8")
    os.replace(staged, picture)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
