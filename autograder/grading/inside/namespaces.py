"""Linux namespaces, mounts, capabilities and limits, through the C library (Python has them from 3.12 on).

Sources: unshare(2), mount(2), capabilities(7), prctl(2), netdevice(7).
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import re
import resource
import signal
import socket
import struct
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x08000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    0x1, 0x2, 0x4, 0x8, 0x20, 0x1000, 0x4000, 0x40000,
)  # fmt: skip
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_PR_SET_CHILD_SUBREAPER = 36
_CAPABILITY_VERSION_3 = 0x20080522


def _check(result: int, doing: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give this process namespaces of its own.

    Raises:
        OSError: the kernel refuses.
    """
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2).

    Raises:
        OSError: the kernel refuses.
    """
    done = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    _check(done, f"mount {target}")


def own_mounts() -> None:
    """Keep what is mounted from here on to this process and its children."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def own_proc() -> None:
    """A /proc that shows this process namespace alone."""
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def scratch(path: str, size: int, *, read_only: bool = False) -> None:
    """An empty file system in memory at `path`, of at most `size` bytes."""
    flags = MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0)
    mount("tmpfs", path, "tmpfs", flags, f"size={size},nr_inodes=20000,mode=755")


def bind(source: str, target: str) -> None:
    """Show the folder `source` at `target` as well."""
    mount(source, target, None, MS_BIND)


def make_read_only(path: str) -> None:
    """Let nobody here write to the file system mounted at `path`."""
    mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def bound_processes(most: int = 1024) -> None:
    """Bound the processes and threads of this process namespace, where Linux can (from 6.14 on).

    A fork bomb is ended by the watch; this keeps it small until the watch looks. Older kernels have one such
    number for the whole machine, which is left alone.
    """
    # Such as 6.12.9-amd64, but also 6.14-rc1-amd64.
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if release is not None and (int(release[1]), int(release[2])) >= (6, 14):
        with contextlib.suppress(OSError):
            Path("/proc/sys/kernel/pid_max").write_text(str(most))


def make_devices_read_only() -> None:
    """Let nobody here change the mode, owner or times of a device; writing to one stays possible."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    places = {line.split()[4] for line in lines}
    for path in sorted(p for p in places if p.startswith("/dev") and p != "/dev/shm"):
        mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC)


def loopback_up() -> None:
    """Switch on the loopback device of a new network namespace, which has no other device."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(probe, 0x8914, request + bytes(22))  # SIOCSIFFLAGS


def die_with_parent() -> None:
    """Be killed when the process that forked this one ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def drop_capabilities() -> None:
    """Give up every capability for good, for this process and all that it starts."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


# Numbers of system calls by machine. Refused: memory that no limit counts (memfd, shared segments, shared
# anonymous maps), keyrings (they outlive a process), new namespaces and mounts, looking into other processes,
# and parts of the Linux kernel that notebooks never need and exploits often do.
_REFUSED = {
    "x86_64": {
        "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "add_key": 248, "request_key": 249,
        "keyctl": 250, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "perf_event_open": 298,
        "userfaultfd": 323, "io_uring_setup": 425, "open_by_handle_at": 304, "fsopen": 430,
        "open_tree": 428, "move_mount": 429, "mount_setattr": 442,
    },
    "aarch64": {
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "add_key": 217, "request_key": 218,
        "keyctl": 219, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "ptrace": 117,
        "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "perf_event_open": 241,
        "userfaultfd": 282, "io_uring_setup": 425, "open_by_handle_at": 265, "fsopen": 430,
        "open_tree": 428, "move_mount": 429, "mount_setattr": 442,
    },
}  # fmt: skip
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE, _MMAP = {"x86_64": 56, "aarch64": 220}, {"x86_64": 9, "aarch64": 222}
_SETSOCKOPT = {"x86_64": 54, "aarch64": 208}
_SOL_SOCKET, _SO_SNDBUF, _SO_RCVBUF = 1, 7, 8
_CLONE3, _X32 = 435, 0x40000000
_CLONE_NEW_ANY, _SHARED_ANONYMOUS = 0x7E020000, 0x21
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


def refuse_system_calls() -> None:
    """Refuse some system calls with an error, in this thread and all that it starts (seccomp(2)).

    Raises:
        OSError: the kernel has no filters, or this machine's numbers are not known here.
    """
    machine = platform.machine()
    if machine not in _REFUSED:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE | errno.EPERM)
    program = [
        (_LOAD, 0, 0, 4),  # architecture
        (_EQUAL, 1, 0, _AUDIT[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # number
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32), refuse]
    # The C library falls back to clone, whose flags can be read here.
    program += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)]
    for number in sorted(_REFUSED[machine].values()):
        program += [(_EQUAL, 0, 1, number), refuse]
    # The low half of the argument stands first on these machines.
    first, second, third, fourth = 16, 24, 32, 40
    program += [(_EQUAL, 0, 5, _CLONE[machine]), (_LOAD, 0, 0, first), (_AND, 0, 0, _CLONE_NEW_ANY)]
    program += [(_EQUAL, 1, 0, 0), refuse, allow]
    program += [(_EQUAL, 0, 5, _MMAP[machine]), (_LOAD, 0, 0, fourth), (_AND, 0, 0, _SHARED_ANONYMOUS)]
    program += [(_EQUAL, 0, 1, _SHARED_ANONYMOUS), refuse, allow]
    # Larger buffers of sockets, which are memory of no process.
    program += [(_EQUAL, 0, 7, _SETSOCKOPT[machine]), (_LOAD, 0, 0, second), (_EQUAL, 0, 3, _SOL_SOCKET)]
    program += [(_LOAD, 0, 0, third), (_EQUAL, 2, 0, _SO_SNDBUF), (_EQUAL, 1, 0, _SO_RCVBUF), allow, refuse]
    program += [allow]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0), "seccomp")


def limit(*, data: int, file: int, cpu: int, files: int) -> None:
    """Limits of each process from here on: bytes of memory, bytes of a file, seconds of CPU, open files."""
    for what, value in (
        (resource.RLIMIT_DATA, data),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))
