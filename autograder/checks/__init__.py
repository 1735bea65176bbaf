"""Cases, references and verdicts of the graded exercises."""

from autograder.checks.hidden_cell import judge

__all__ = ["judge"]
