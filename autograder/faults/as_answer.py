"""A catalogued fault as a student would have written it: text for the answer cell, alone on its own feet."""

import ast
import inspect
import re
import textwrap
from functools import cache
from types import ModuleType

from autograder.checks.reference import names_used, notebook
from autograder.checks.registry import exercise_named
from autograder.faults.registry import Fault

_MARKERS = re.compile(r"(?m)^\s*### (BEGIN|END) SOLUTION\n?")


class NotPortable(ValueError):
    """The fault's source does not stand alone; the message says why."""


def right_answers(lab: str) -> dict[str, str]:
    """What the solution notebook has in its answer cells, by cell id, without nbgrader's markers."""
    return {
        cell.id: _MARKERS.sub("", cell.source)
        for cell in notebook(lab).cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }


def wrong_answer(fault: Fault) -> tuple[str, str]:
    """The id of the fault's answer cell and a text for it, in which only that one function is wrong.

    The function holds everything of the catalogue's module that it needs, the right answer included where the
    fault is a small step away from it. So nothing else in the notebook changes.

    Raises:
        NotPortable: the fault is no plain function, or needs something of the grader.
    """
    lab = exercise_named(fault.exercise).lab
    for identifier, source in right_answers(lab).items():
        node = _function(source, fault.exercise)
        if node is not None:
            lines = source.split("\n")
            wrong = _wrong_function(fault, node).split("\n")
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            return identifier, "\n".join([*lines[:first], *wrong, *lines[node.end_lineno :]])
    raise NotPortable(f"{fault.id}: no answer cell of {lab} defines {fault.exercise}.")


def _function(source: str, name: str) -> ast.FunctionDef | None:
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _wrong_function(fault: Fault, right: ast.FunctionDef) -> str:
    if not inspect.isfunction(fault.run) or fault.run.__closure__:
        raise NotPortable(f"{fault.id} is not a plain function.")
    parsed = ast.parse(textwrap.dedent(inspect.getsource(fault.run))).body[0]
    if not isinstance(parsed, ast.FunctionDef):
        raise NotPortable(f"{fault.id} is not written as a function.")
    module = inspect.getmodule(fault.run)
    assert module is not None
    needed = _needed(module, parsed)
    if any(isinstance(node, ast.ImportFrom) and "autograder" in (node.module or "") for node in needed):
        raise NotPortable(f"{fault.id} needs a part of the grader.")
    if any(_calls_reference(node) for node in (parsed, *needed)):
        needed = [*_right_answer(fault, right, (parsed, *needed)), *needed]
    for argument in ast.walk(parsed.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    parsed.name, parsed.returns, parsed.decorator_list = fault.exercise, None, []
    parsed.body = [*needed, *parsed.body]
    return ast.unparse(ast.fix_missing_locations(parsed))


def _needed(module: ModuleType, function: ast.FunctionDef) -> list[ast.stmt]:
    """Statements of the catalogue's module that the function depends on, in their order."""
    where, body = _statements(module)
    wanted = names_used("\n".join(ast.unparse(statement) for statement in function.body))
    found: set[int] = set()
    while wanted:
        position = where.get(wanted.pop())
        if position is not None and position not in found:
            found.add(position)
            wanted += names_used(ast.unparse(body[position]))
    return [body[position] for position in sorted(found)]


@cache
def _statements(module: ModuleType) -> tuple[dict[str, int], tuple[ast.stmt, ...]]:
    body: list[ast.stmt] = []
    for node in ast.parse(inspect.getsource(module)).body:
        registry = isinstance(node, ast.ImportFrom) and node.module == "autograder.faults.registry"
        if not registry and not (isinstance(node, ast.FunctionDef) and node.name == "_"):
            body.append(node)
    where: dict[str, int] = {}
    for position, node in enumerate(body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [(alias.asname or alias.name).split(".")[0] for alias in node.names]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        else:
            names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        where |= dict.fromkeys(names, position)
    return where, tuple(body)


def _calls_reference(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "reference" for n in ast.walk(node))


def _right_answer(
    fault: Fault, right: ast.FunctionDef, nodes: tuple[ast.stmt, ...]
) -> tuple[ast.stmt, ast.stmt]:
    """The right answer under its own name, inside the wrong one, and `reference`, which gives it.

    Other exercises' answers are right in the same notebook, where they go by their names.
    """
    asked = {
        call.args[0].value
        for node in nodes
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "reference"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    names = sorted({str(name) for name in asked} | {fault.exercise})
    if len({exercise_named(name).lab for name in names}) > 1:
        raise NotPortable(f"{fault.id} needs the answer of another lab.")
    table = ", ".join(f"{name!r}: {name}" for name in names)
    lookup = ast.parse(f"def reference(name):\n    return {{{table}}}[name]").body[0]
    inner = ast.parse(ast.unparse(right)).body[0]
    assert isinstance(inner, ast.FunctionDef)
    if ast.get_docstring(inner) is not None and len(inner.body) > 1:
        del inner.body[0]
    return inner, lookup
