"""Cases, references and verdicts of the graded exercises."""

from typing import Any

__all__ = ["judge"]


def __getattr__(name: str) -> Any:
    # late, because judging needs the catalogue of faults, which needs the exercises of this package
    if name == "judge":
        from autograder.checks.hidden_cell import judge

        return judge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
