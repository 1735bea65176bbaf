"""What a notebook of The Chat Contract imports.

Nothing heavy is loaded here: a module imports torch, transformers or TRL inside the functions that use it.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "faults_table"]


def __getattr__(name: str) -> Any:
    if name == "faults_table":
        from chatcontract.check.catalogue import faults_table

        return faults_table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
