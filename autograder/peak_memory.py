"""How much memory a process and its children take together."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def sampled(pid: int) -> Iterator[list[int]]:
    """The most memory of a process and all its children, in bytes, looked at once a second.

    Pages that several share are counted once.
    """
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(1.0):
            peak[0] = max(peak[0], _memory(pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _memory(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, AttributeError):
            continue
    return total
