"""The mark of tests that run student code where it is isolated; elsewhere the reason is printed."""

import pytest

from autograder.grading import sandbox


def _missing() -> str:
    try:
        sandbox.require()
    except sandbox.NoSandbox as problem:
        return str(problem)
    return ""


MISSING = _missing()
needs_sandbox = pytest.mark.skipif(bool(MISSING), reason=MISSING)
