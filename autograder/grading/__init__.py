"""The grader: hand-ins in, verdicts computed outside the student's process, nbgrader's gradebook out."""
