"""The reference answers, taken from the solution notebooks without running them."""

import ast
import builtins
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from autograder.labs import ROOT
from autograder.learning_cells import LEARNING_TAGS


class MissingReference(LookupError):
    """A notebook does not define a function that the grader asks for."""


@cache
def notebook(lab: str, root: Path = ROOT) -> nbformat.NotebookNode:
    """The solution notebook of a lab."""
    return nbformat.read(root / "solutions" / lab / f"{lab}.ipynb", as_version=4)


def reference(lab: str, name: str, root: Path = ROOT) -> Callable[..., Any]:
    """The reference answer of one exercise, with everything it depends on and nothing else.

    Raises:
        MissingReference: the notebook defines no function of this name.
    """
    namespace = definitions(lab, (name,), root)
    if name not in namespace:
        raise MissingReference(f"solutions/{lab} defines no function {name}: the grader needs it.")
    function: Callable[..., Any] = namespace[name]
    return function


def definitions(
    lab: str, names: Iterable[str], root: Path = ROOT, replace: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Execute the notebook's definitions that `names` depend on, and only those.

    Imports, functions, classes and assignments at the top level of a cell count as definitions; the last one
    of a name wins. Cells tagged experiment or server and test cells are left out, so nothing is trained.

    Args:
        replace: names that get these values instead of the notebook's.
    """
    namespace: dict[str, Any] = dict(replace or {})
    statements = _top_level(lab, root)
    wanted, needed = list(names), set()
    while wanted:
        name = wanted.pop()
        if name in namespace or name not in statements:
            continue
        position, node = statements[name]
        if position not in needed:
            needed.add(position)
            wanted += _names_used(node)
    for position in sorted(needed):
        exec(_compiled(lab, root)[position], namespace)
        namespace |= replace or {}
    return namespace


@cache
def _body(lab: str, root: Path) -> tuple[ast.stmt, ...]:
    transform = TransformerManager().transform_cell
    body: list[ast.stmt] = []
    for cell in notebook(lab, root).cells:
        settings = cell.metadata.get("nbgrader", {})
        is_test = settings.get("grade") and not settings.get("solution")
        learning = LEARNING_TAGS.intersection(cell.metadata.get("tags", []))
        if cell.cell_type == "code" and not is_test and not learning:
            body += ast.parse(transform(cell.source)).body
    return tuple(body)


@cache
def _compiled(lab: str, root: Path) -> tuple[CodeType, ...]:
    return tuple(
        compile(ast.Module([node], []), f"<{lab}>", "exec", dont_inherit=True) for node in _body(lab, root)
    )


@cache
def _top_level(lab: str, root: Path) -> dict[str, tuple[int, ast.stmt]]:
    """Where each name is last defined: position in the notebook's statements, and the statement."""
    found: dict[str, tuple[int, ast.stmt]] = {}
    for position, node in enumerate(_body(lab, root)):
        for name in _names_bound(node):
            found[name] = (position, node)
    return found


def _names_bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return []


def _names_used(node: ast.AST) -> list[str]:
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return sorted(used - set(dir(builtins)))


def names_used(source: str) -> list[str]:
    """The names that a piece of code reads, in alphabetical order."""
    return _names_used(ast.parse(TransformerManager().transform_cell(source)))
