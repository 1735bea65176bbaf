"""What a notebook of The Chat Contract imports.

Nothing heavy is loaded here: a module imports torch, transformers or TRL inside the functions that use it.
"""

__version__ = "0.1.0"
