"""What every lab notebook must keep to, as a list of plain sentences about one notebook."""

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbgrader.nbgraderformat import MetadataValidator

from autograder.labs import DRAFTS, POINTS, total_points
from autograder.learning_cells import LEARNING_TAGS
from autograder.tidy import tidy

MAX_CODE_LINES = 40
ALLOWED_TAGS = LEARNING_TAGS | {"raises-exception"}
# Present in IPython 7.34, which Colab runs, and of use in a lesson. Shell lines are left out: Windows.
ALLOWED_MAGICS = frozenset({"capture", "matplotlib", "time", "timeit"})
_ABSOLUTE_PATH = re.compile(
    r"(?:^|[\s'\"=(])(?:/(?:content|data|etc|home|mnt|opt|root|tmp|usr|Users|var|work)\b|[A-Za-z]:[\\/])"
)
_MAGIC_CALLS = frozenset({"run_line_magic", "run_cell_magic"})
_SHELL_CALLS = frozenset({"system", "getoutput"})


def lint(notebook: NotebookNode, lab: str, repository: str) -> list[str]:
    """Everything that is wrong with a solution or released notebook, one sentence each; empty when clean.

    Args:
        lab: the lab's name, NN_topic.
        repository: owner/name, as in the badge.
    """
    problems = [*_untidy(notebook, lab, repository), *_document(notebook), *_metadata(notebook)]
    for position, cell in enumerate(notebook.cells, start=1):
        found = list(_tags(cell))
        if cell.cell_type == "code":
            found += _code(cell)
        problems += [f"cell {position} (id {cell.get('id')}): {sentence}" for sentence in found]
    return [f"{lab}: {problem}" for problem in problems]


def lint_points(notebook: NotebookNode, lab: str) -> list[str]:
    """Whether the graded cells add up to the points that the course's table gives this lab."""
    planned = POINTS.get(lab[:2])
    total = total_points(notebook)
    if planned is None:
        return [f"{lab}: no points are planned for lab {lab[:2]} in the table of autograder/labs.py."]
    if total > planned or (total != planned and lab[:2] not in DRAFTS):
        return [f"{lab}: its graded cells add up to {total:g} points, the table says {planned}."]
    return []


def _untidy(notebook: NotebookNode, lab: str, repository: str) -> Iterator[str]:
    for part in tidy(copy.deepcopy(notebook), lab, repository):
        yield f"'{part}' is not as it is kept in the repository; run 'build' and commit what it writes."


def _document(notebook: NotebookNode) -> Iterator[str]:
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        version = f"{notebook.nbformat}.{notebook.nbformat_minor}"
        yield f"the file format is {version}, not 4.5, which keeps cell ids."
    counts = Counter(cell.get("id") for cell in notebook.cells)
    for cell_id, count in counts.items():
        if cell_id is None or count > 1:
            yield f"{count} cell(s) have {'no id' if cell_id is None else f'the same id {cell_id}'}."


def _metadata(notebook: NotebookNode) -> Iterator[str]:
    try:
        MetadataValidator().validate_nb(notebook)
    except Exception as error:  # nbgrader raises several unrelated types for a bad cell
        yield f"nbgrader refuses its cell metadata: {str(error).splitlines()[0]}"


def _tags(cell: NotebookNode) -> Iterator[str]:
    tags = set(cell.metadata.get("tags", ()))
    for tag in sorted(tags - ALLOWED_TAGS):
        yield f"the tag '{tag}' is not one of {', '.join(sorted(ALLOWED_TAGS))}."
    if tags & LEARNING_TAGS and "nbgrader" in cell.metadata:
        yield "a cell that nbgrader scores cannot be tagged experiment or server."


def _code(cell: NotebookNode) -> Iterator[str]:
    lines = cell.source.splitlines()
    if len(lines) > MAX_CODE_LINES:
        yield f"it has {len(lines)} lines of code, the limit is {MAX_CODE_LINES}."
    try:
        tree = ast.parse(TransformerManager().transform_cell(cell.source))
    except SyntaxError as error:
        yield f"it is not valid Python: {error.msg} in line {error.lineno}."
        return
    yield from _exercise(cell, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield f"'from {node.module} import *' hides where names come from; import what is used."
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _ABSOLUTE_PATH.search(node.value):
                yield f"the absolute path in {node.value[:60]!r} exists on one machine only."
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _magic(node)


def _magic(call: ast.Call) -> Iterator[str]:
    assert isinstance(call.func, ast.Attribute)
    if not (isinstance(call.func.value, ast.Call) and ast.unparse(call.func.value) == "get_ipython()"):
        return
    name = str(call.args[0].value) if call.args and isinstance(call.args[0], ast.Constant) else ""
    if call.func.attr in _SHELL_CALLS:
        yield f"the shell line '!{name}' does not run everywhere; call Python instead."
    elif call.func.attr in _MAGIC_CALLS and name not in ALLOWED_MAGICS:
        yield f"the magic '%{name}' is not one of {', '.join(sorted(ALLOWED_MAGICS))}."


def _exercise(cell: NotebookNode, tree: ast.Module) -> Iterator[str]:
    settings = cell.metadata.get("nbgrader", {})
    has_region = re.search("### BEGIN SOLUTION|raise NotImplementedError", cell.source)
    if settings.get("solution") and not has_region:
        yield "a solution cell needs ### BEGIN SOLUTION and ### END SOLUTION, or all of it is removed."
    if settings.get("grade") and not settings.get("solution"):
        if not settings.get("points", 0) > 0:
            yield "a test cell is worth more than 0 points."
        if _scores_by_accident(tree):
            yield "nbgrader reads its last value as the score: end with an assert, check(...) or judge(...)."


def _scores_by_accident(tree: ast.Module) -> bool:
    # nbgrader gives full points for a last value that is no number, and stops at one above the maximum.
    last = tree.body[-1:]
    value = last[0].value if last and isinstance(last[0], ast.Expr) else None
    is_verdict = isinstance(value, ast.Call) and ast.unparse(value.func) in ("check", "judge")
    return value is not None and not is_verdict
