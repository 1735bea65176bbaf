"""`python -m autograder`."""

import sys

try:
    from autograder.cli import main
except ModuleNotFoundError as error:
    sys.exit(
        f"The environment lacks {error.name}: it was changed after it was made. "
        "Delete the file .venv/course.json and run the same command again; what is missing is installed."
    )

main()
