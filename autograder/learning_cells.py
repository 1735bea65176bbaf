"""Cells that are for learning and never run while nbgrader grades or validates."""

from nbformat import NotebookNode

LEARNING_TAGS = frozenset({"experiment", "server"})
# nbclient leaves a cell with this tag alone (its option skip_cells_with_tag).
SKIP_TAG = "skip-execution"


def skip_while_grading(notebook: NotebookNode) -> None:
    """Tag a notebook's learning cells so that nbclient does not execute them.

    nbclient calls this once before the first cell (its option on_notebook_start). A cell that nbgrader scores
    is never skipped, whatever tags a submission gave it: a test that did not run would earn its full points.
    """
    for cell in notebook.cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if tag != SKIP_TAG]
        if LEARNING_TAGS.intersection(tags) and "nbgrader" not in cell.metadata:
            tags.append(SKIP_TAG)
        if tags or "tags" in cell.metadata:
            cell.metadata["tags"] = tags
