"""What a cell's code defines at its top level, read without running it."""

import ast
import re
import warnings
from collections.abc import Collection, Iterable
from functools import lru_cache

# Longer cells are not parsed: no answer of the course comes near it, and a tree takes 100 times its text.
MAX_PARSED = 50_000
# A line that is a magic, a shell command or a question, or assigns what one of them gives.
_MAGIC = re.compile(
    r"^(?P<before>[ \t]*(?:[\w,][\w, ]*=[ \t]*)?)(?:[%!][^\n]*|\?[^\n]*|[\w.]+\?{1,2}[ \t]*)$", re.MULTILINE
)
_FENCE = re.compile(r"^```(?:python)?[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def parsed(source: str) -> ast.Module | None:
    """The code as Python reads it, magics and a Markdown fence around it allowed for; None if it is none."""
    return _parsed(source)[0]


def parses(source: str) -> bool:
    """Whether the source is Python code, magics allowed."""
    return parsed(source) is not None


def comparable(source: str) -> str:
    """The code without comments, docstrings and layout, to compare; "" if it cannot be parsed."""
    module = parsed(source)
    return "\n".join(_dump(node) for node in module.body) if module else ""


def function_bodies(source: str) -> dict[str, str]:
    """Each function that a stub leaves open, with its body to compare; all functions if none is marked."""
    module = parsed(source)
    functions = [n for n in module.body if isinstance(n, ast.FunctionDef)] if module else []
    marked = [n for n in functions if any(_does_nothing(s) for s in ast.walk(n) if isinstance(s, ast.Raise))]
    return {node.name: _body(node) for node in marked or functions}


def mentions_definition(source: str, names: Iterable[str]) -> bool:
    """Whether a line seems to define one of the names; quick, and true for text that cannot be parsed."""
    either = "|".join(map(re.escape, names))
    return bool(either) and bool(
        re.search(
            rf"^(?:async[ \t]+)?(?:def[ \t]+(?:{either})\b|(?:{either})[ \t]*[:=](?!=))", source, re.MULTILINE
        )
    )


def defined(source: str, stubs: dict[str, str]) -> frozenset[str]:
    """Which of the functions the source defines in earnest: with another body than the released stub's.

    Args:
        stubs: the functions' names and the bodies of their stubs (see function_bodies).
    """
    if not mentions_definition(source, stubs):
        return frozenset()
    module = parsed(source)
    if module is None:
        return frozenset()
    found = set()
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name in stubs and not _is_unfinished(node) and _body(node) != stubs[node.name]:
                found.add(node.name)
        elif bound := _bound(node) & stubs.keys():
            found |= bound - _loaded(node)
    return frozenset(found)


def extract(source: str, names: Collection[str]) -> str:
    """The top-level statements that define the names, and those of the same cell that they need.

    A source that cannot be parsed is returned as it is, so that its error is seen.
    """
    module, text = _parsed(source)
    if module is None:
        return source
    wanted, kept = set(names), set[int]()
    grown = True
    while grown:
        grown = False
        for position, node in enumerate(module.body):
            if position not in kept and _bound(node) & wanted:
                kept.add(position)
                wanted |= _loaded(node)
                grown = True
    lines = text.split("\n")
    return "\n\n".join("\n".join(_lines_of(module.body[p], lines)) for p in sorted(kept))


def free_names(source: str) -> frozenset[str]:
    """Names that the code reads and does not bind at its top level."""
    module = parsed(source)
    if module is None:
        return frozenset()
    bound = {name for node in module.body for name in _bound(node)}
    return frozenset({name for node in module.body for name in _loaded(node)} - bound)


def bound_names(source: str) -> frozenset[str]:
    """Names that the code binds at its top level."""
    module = parsed(source)
    return frozenset(name for node in module.body for name in _bound(node)) if module else frozenset()


@lru_cache(maxsize=32)
def _parsed(source: str) -> tuple[ast.Module | None, str]:
    """The parsed code and the text that its line numbers refer to."""
    if len(source) > MAX_PARSED:
        return None, source
    if fence := _FENCE.search(source):
        source = fence[1]
    module = _parse(source)
    if module is None and _MAGIC.search(source):
        module = _parse(_MAGIC.sub(_stand_in, source))
    return module, source


def _stand_in(magic: re.Match[str]) -> str:
    """Python of the same length in lines; IPython's own translation can take minutes."""
    before = magic["before"]
    return f"{before}None" if before.strip() else f"{before}pass"


def _parse(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _is_unfinished(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function only raises NotImplementedError, or does nothing at all."""
    return all(_does_nothing(statement) for statement in _without_docstring(node))


def _does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Raise(
            exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))
        ):
            return True
    return False


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
    return node.body


def _body(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return "\n".join(_safe_dump(statement) for statement in _without_docstring(node))


def _dump(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"{node.name}({_safe_dump(node.args)}):{_body(node)}"
    return _safe_dump(node)


def _safe_dump(node: ast.AST) -> str:
    try:
        return ast.dump(node)
    except RecursionError:
        return f"too deep at line {getattr(node, 'lineno', 0)}"


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            return {targets[0].id}
        return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return set()


def _loaded(node: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _lines_of(node: ast.stmt, lines: list[str]) -> list[str]:
    """A statement's lines from its first decorator to the last indented comment under it."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    last = node.end_lineno or node.lineno
    after = last
    while after < len(lines) and (not lines[after].strip() or lines[after].startswith((" ", "\t"))):
        after += 1
        last = after if lines[after - 1].strip() else last
    return lines[first - 1 : last]
