"""chatcontract.report: what a reader sees and what a program gets."""

import json

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from chatcontract.reporting import FIGURES_MIME, report


@pytest.fixture
def shown():
    """Report inside an IPython shell; the MIME bundle that a notebook would store."""
    InteractiveShell.instance()

    def bundle(**figures):
        with capture_output() as captured:
            report(**figures)
        (output,) = captured.outputs
        return json.loads(json.dumps(output.data, allow_nan=False))

    yield bundle
    InteractiveShell.clear_instance()


def test_programs_get_plain_values(shown):
    figures = shown(grounded=np.float32(0.5), rows=np.int64(3), device="cpu", done=True, note=None)
    assert figures[FIGURES_MIME] == {"grounded": 0.5, "rows": 3, "device": "cpu", "done": True, "note": None}


def test_readers_get_a_table_and_a_text(shown):
    figures = shown(train_seconds=212.4321, name="<b>")
    assert figures["text/plain"] == "train_seconds  212.4\nname           <b>"
    assert ">212.4</td>" in figures["text/html"] and "&lt;b&gt;" in figures["text/html"]


def test_a_loss_that_is_not_finite_is_shown_and_stored_as_null(shown):
    figures = shown(loss=float("nan"))
    assert figures["text/plain"] == "loss  nan"
    assert figures[FIGURES_MIME] == {"loss": None}


def test_outside_a_notebook_it_prints(capsys):
    report(steps=3)
    assert capsys.readouterr().out == "steps  3\n"


def test_a_list_is_refused():
    with pytest.raises(TypeError, match=r"report\(losses=\.\.\.\) got a list: give one number"):
        report(losses=[1, 2])
