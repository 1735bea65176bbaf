"""Measured faults: the correct fine-tuning pipeline, or the same with one thing wrong, on the course's nano.

from chatcontract.experiments import run_experiment, saved_results

run_experiment("eot_masked")               # trains for about half a minute, then measures
saved_results()["eot_masked"].stop_rate    # the committed figure
"""

from chatcontract.experiments.catalogue import EXPERIMENTS, Experiment
from chatcontract.experiments.chart import Chart, chart
from chatcontract.experiments.measure import run_experiment
from chatcontract.experiments.results import ExperimentResult, saved_results

__all__ = [
    "EXPERIMENTS",
    "Chart",
    "Experiment",
    "ExperimentResult",
    "chart",
    "run_experiment",
    "saved_results",
]
