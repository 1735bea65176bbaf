"""Checks that run beside the exercise: which case fails, what is wrong, and which known mistake it is.

from chatcontract.check import check, hint, progress

check(render_chatml)   # after each attempt; raises AssertionError while a case fails
hint(render_chatml)    # a question, then a pointer, then pseudo-code
progress()             # points so far
"""

from chatcontract.check.catalogue import FaultsTable, faults_table
from chatcontract.check.hints import hint
from chatcontract.check.points import progress
from chatcontract.check.run import CheckFailed, check

__all__ = ["CheckFailed", "FaultsTable", "check", "faults_table", "hint", "progress"]
