"""Cases, references and verdicts of the graded exercises."""
