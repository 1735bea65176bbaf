"""`faults_table(lab)`: the symptom table of a lab, printed from the catalogue of faults."""

from __future__ import annotations

from dataclasses import dataclass

from chatcontract.check.cases import PublicFault, labs
from chatcontract.viewers.page import page, table, text_table

_COLUMNS = ("mistake", "what one sees", "first check", "measured on nano", "where it happened")


@dataclass(frozen=True, repr=False)
class FaultsTable:
    """The public part of a lab's faults, as HTML or as text."""

    lab: str
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """The table as aligned text."""
        return text_table(_COLUMNS, self.rows)

    def __repr__(self) -> str:
        return self.text()

    def html(self) -> str:
        """The table as a block of HTML."""
        caption = f"Known mistakes of lab {self.lab}"
        return page(table(_COLUMNS, self.rows, caption=caption), label=caption)

    def _repr_html_(self) -> str:
        return self.html()


def faults_table(lab: str) -> FaultsTable:
    """The known mistakes of one lab: title, symptom, first check, measured damage and citation.

    Args:
        lab: the lab's name, NN_topic.

    Raises:
        LookupError: there is no such lab, or it has no exercises yet.
    """
    if lab not in labs():
        raise LookupError(f"There is no lab {lab!r} with faults: there are {', '.join(labs()) or 'none'}.")
    faults = [fault for exercise in labs()[lab] for fault in exercise.faults.values()]
    return FaultsTable(lab, tuple((f.title, f.symptom, f.first_check, damage(f), f.citation) for f in faults))


def damage(fault: PublicFault) -> str:
    """The measured change of grounded and stop rate, or "-" where no experiment measures the fault."""
    if not fault.experiment:
        return "-"
    from chatcontract.experiments import saved_results

    try:
        results = saved_results()
        right, wrong = results["correct"], results[fault.experiment]
    except (FileNotFoundError, KeyError):
        return "-"
    grounded = f"grounded {right.grounded_rate:.2f} -> {wrong.grounded_rate:.2f}"
    return f"{grounded}, stop {right.stop_rate:.2f} -> {wrong.stop_rate:.2f}"
