"""The walls that a child of a warm process puts around itself, before anything of a student's reaches it."""

import os
import resource
from pathlib import Path

from autograder.grading.inside import namespaces

# Exists, empty, in the sandbox's root.
HOME = "/home/student"


def own_file_systems(size: int) -> None:
    """Own mounts, an own /proc, and an empty folder of `size` bytes wherever something can be written."""
    namespaces.own_mounts()
    namespaces.own_proc()
    namespaces.bound_processes()
    for path in ("/tmp", "/dev/shm", HOME):
        namespaces.scratch(path, size)
    # The working folder is still the one below, which the next child would find as this one left it.
    os.chdir("/")


def give_up_rights(
    *, memory: int, file: int, files: int = 1024, cpu: int | None = None, isolated: bool = True
) -> None:
    """What can only be done once, and before the first thread starts: limits, capabilities, system calls.

    Args:
        memory: bytes, beside what the imports took.
        file: bytes of the largest file.
        files: that may be open in a process, sockets among them.
        cpu: seconds, beside what was used until now.
        isolated: whether there are own file systems, which are closed as well.
    """
    if isolated:
        namespaces.make_read_only("/proc")
        namespaces.make_devices_read_only()
    used = resource.getrusage(resource.RUSAGE_SELF)
    namespaces.limit(
        data=_data_in_use() + memory,
        file=file,
        files=files,
        cpu=resource.RLIM_INFINITY if cpu is None else int(used.ru_utime + used.ru_stime) + cpu,
    )
    namespaces.drop_capabilities()
    namespaces.refuse_system_calls()
    # The warm process's standard error is a file, which the next submission could open again.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _data_in_use() -> int:
    """Bytes that RLIMIT_DATA counts for this process so far: what the warm imports took."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
