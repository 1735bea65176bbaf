"""Brings a solution notebook into the form it is kept in: everything that no author writes by hand."""

import nbformat
from nbformat import NotebookNode

from autograder.bootstrap import BADGE_ID, BOOTSTRAP_ID, badge_source, bootstrap_source

NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# What nbgrader, its locked cells and our tags need; editors add more (collapsed, execution times, Colab ids).
CELL_METADATA = frozenset({"deletable", "editable", "nbgrader", "tags"})


def tidy(notebook: NotebookNode, lab: str, repository: str) -> list[str]:
    """Make a notebook's generated parts current and remove what running it left behind, in place.

    Its first cell becomes the Colab badge and its first code cell the bootstrap.

    Args:
        lab: the lab's name, NN_topic.
        repository: owner/name on GitHub.

    Returns:
        The parts that were not as they should be, such as "bootstrap cell"; empty for a tidy notebook.
    """
    checks = {
        "Colab badge": _write_badge(notebook, badge_source(repository, lab)),
        "bootstrap cell": _write_bootstrap(notebook, bootstrap_source(repository)),
        "notebook metadata": _write_metadata(notebook),
        "cell metadata": _clean_cell_metadata(notebook),
        "outputs": _clear_outputs(notebook),
    }
    return [part for part, changed in checks.items() if changed]


def _write_badge(notebook: NotebookNode, source: str) -> bool:
    badge = nbformat.v4.new_markdown_cell(source, id=BADGE_ID)
    cells = notebook.cells
    if cells and _same(cells[0], badge):
        return False
    notebook.cells = [badge, *(cell for cell in cells if cell.get("id") != BADGE_ID)]
    return True


def _write_bootstrap(notebook: NotebookNode, source: str) -> bool:
    bootstrap = nbformat.v4.new_code_cell(source, id=BOOTSTRAP_ID)
    cells = notebook.cells
    first = next((i for i, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    if first < len(cells) and _same(cells[first], bootstrap):
        return False
    after = [cell for cell in cells[first:] if cell.get("id") != BOOTSTRAP_ID]
    notebook.cells = [*cells[:first], bootstrap, *after]
    return True


def _same(cell: NotebookNode, generated: NotebookNode) -> bool:
    return all(cell.get(key) == generated[key] for key in ("id", "cell_type", "source"))


def _write_metadata(notebook: NotebookNode) -> bool:
    if notebook.metadata == NOTEBOOK_METADATA:
        return False
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    return True


def _clean_cell_metadata(notebook: NotebookNode) -> bool:
    changed = False
    for cell in notebook.cells:
        for key in set(cell.metadata) - CELL_METADATA:
            del cell.metadata[key]
            changed = True
    return changed


def _clear_outputs(notebook: NotebookNode) -> bool:
    changed = False
    for cell in notebook.cells:
        if cell.get("outputs") or cell.get("execution_count") is not None:
            cell.outputs, cell.execution_count = [], None
            changed = True
    return changed
