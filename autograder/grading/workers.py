"""Who runs the jobs: threads of this process with a workshop each, or the workers of a Dask cluster."""

import contextlib
import secrets
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from autograder.grading import sandbox
from autograder.grading.job import Job, grade, grader_version
from autograder.grading.model import Result, Status
from autograder.grading.workshop import Workshop, WorkshopError

# How often workers are counted, and how long there may be none: a nanny needs seconds to restart one.
_LOOK_SECONDS, _GONE_SECONDS = 2.0, 30.0
_GO_ON = "What was judged is kept: start workers again and go on with --resume."


class NoCluster(ConnectionError):
    """No Dask cluster that can grade is at the address, or not any more; the message says why."""


class _Workplace:
    """The warm processes of some threads: each has its own, made at the first use and when they are gone."""

    def __init__(self) -> None:
        self._here = threading.local()
        self._lock = threading.Lock()
        self._opened: list[Workshop] = []
        self._closed = False

    def workshop(self, isolated: bool, fresh: bool = False) -> Workshop:
        """This thread's warm processes, which may still be starting."""
        current: Workshop | None = getattr(self._here, "workshop", None)
        if current is not None and (fresh or current.isolated != isolated or not current.alive()):
            current.close()
            current = None
        if current is None:
            with self._lock:
                if self._closed:
                    raise WorkshopError("the batch was ended")
                current = Workshop(isolated=isolated)
                self._opened.append(current)
            self._here.workshop = current
        return current

    def run(self, job: Job) -> Result:
        """Grade one submission on this thread.

        A submission with which the warm processes end twice is left to a person; the batch goes on.

        Raises:
            WorkshopError: this was closed meanwhile.
        """
        for attempt in range(2):
            try:
                return grade(job, self.workshop(job.isolated, fresh=attempt > 0))
            except WorkshopError as error:
                if self._closed:
                    raise
                problem = str(error)
        return unfinished(job, f"The grader's own processes ended twice with this submission ({problem}).")

    def close(self) -> None:
        """End every warm process, also under a submission that is being judged, and start no others."""
        with self._lock:
            self._closed = True
            for workshop in self._opened:
                workshop.close()
            self._opened.clear()


# For Dask and nbgrader, by batch. A closed one stays here, so that what comes late does not open it again.
_workplaces: dict[str, _Workplace] = {}


def run_job(job: Job, batch: str = "") -> Result:
    """Grade one submission on this thread of a Dask worker or of nbgrader, as one of a batch.

    Raises:
        WorkshopError: the batch was ended meanwhile.
    """
    return _workplaces.setdefault(batch, _Workplace()).run(job)


class UnfitWorker(RuntimeError):
    """A Dask worker that cannot grade, or would give other marks; the message says why."""


# The batches for which this process of a Dask worker was found fit.
_fit_for: set[str] = set()


def try_out(isolated: bool, batch: str, version: str) -> None:
    """See once a batch that student code is isolated on this Dask worker, by a grader of that version.

    Raises:
        UnfitWorker: it is not.
    """
    if batch in _fit_for:
        return
    try:
        if isolated:
            sandbox.require()
    except sandbox.NoSandbox as problem:
        raise UnfitWorker(str(problem).rstrip(".")) from None
    if grader_version() != version:
        raise UnfitWorker(
            "it has another grader, Python or library than this machine, and could give other marks: install "
            "the same there, and start the worker again"
        )
    _fit_for.add(batch)


def run_job_if_fit(job: Job, batch: str, version: str) -> Result:
    """Grade one submission on a Dask worker, which may have joined after the others were tried out.

    Raises:
        UnfitWorker: it cannot grade, or would give other marks.
        WorkshopError: the batch was ended meanwhile.
    """
    try_out(job.isolated, batch, version)
    return run_job(job, batch)


def close_workshops(batch: str = "") -> None:
    """End a batch in this process, with its warm processes."""
    _workplaces.setdefault(batch, _Workplace()).close()


def unfinished(job: Job, reason: str) -> Result:
    """What stands for a submission that could not be judged: never a mark."""
    prepared = job.prepared
    return Result(
        student=prepared.student,
        lab=prepared.lab,
        status=Status.NEEDS_HUMAN,
        reason=reason,
        repairs=prepared.repairs,
        notes=prepared.notes,
        submitted_at=job.submitted_at,
    )


def _told(error: BaseException) -> str:
    """An error of the grader itself, with the place a report of it needs."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "autograder" in Path(frame.filename).parts]
    place = f", in {Path(ours[-1].filename).name} line {ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}: {error}{place}"


class LocalWorkers:
    """Threads of this process; the student code runs in their sandboxes."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._barrier = threading.Barrier(count)
        self._workplace = _Workplace()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="grader")

    def warm_up(self, isolated: bool) -> None:
        """Start the warm processes of all workers at once.

        Raises:
            WorkshopError: one of them did not start.
        """

        def one(_: int) -> None:
            # The barrier gives each thread exactly one of these calls.
            self._barrier.wait(timeout=60)
            self._workplace.workshop(isolated).wait()

        list(self._pool.map(one, range(self.count)))

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """Every job with its result, as they end."""
        futures = {self._pool.submit(self._workplace.run, job): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()
            job = futures[future]
            if error is not None:
                yield job, unfinished(job, f"The grader failed on this submission: {_told(error)}.")
            else:
                yield job, future.result()

    def close(self) -> None:
        """End the warm processes and the threads; what is being judged, as after Ctrl-C, is given up."""
        self._barrier.abort()
        self._workplace.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


class DaskWorkers:
    """The workers of a Dask cluster; each of them has the course installed."""

    def __init__(self, address: str) -> None:
        from distributed import Client

        try:
            self._client = Client(address, timeout=10, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise NoCluster(
                f"No Dask scheduler answers at {address}: start one with 'dask scheduler' and workers with "
                "'dask worker', or leave --scheduler out."
            ) from error
        self._address = address
        # Another class on the same cluster has its own warm processes.
        self._batch = secrets.token_hex(8)
        self._waiting: dict[Any, Job] = {}
        self.count = self._count()
        if not self.count:
            self.close()
            raise NoCluster(f"The scheduler at {address} has no workers: start some with 'dask worker'.")

    def _count(self) -> int:
        return len(self._client.scheduler_info(n_workers=-1).get("workers", ()))

    def warm_up(self, isolated: bool) -> None:
        """Try out the sandbox of each worker, and compare its grader with this one.

        Raises:
            NoCluster: one of them cannot grade, or would give other marks.
        """
        fit = self._client.run(try_out, isolated, self._batch, grader_version(), on_error="return")
        for worker, problem in fit.items():
            if problem is not None:
                raise NoCluster(f"The Dask worker {worker} cannot grade: {problem}.")

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """Every job with its result, as they end.

        Raises:
            NoCluster: the scheduler or the last worker is gone, or a worker joined that cannot grade.
        """
        ended: SimpleQueue[Any] = SimpleQueue()
        for job in jobs:
            future = self._client.submit(
                run_job_if_fit, job, self._batch, grader_version(), pure=False, retries=1
            )
            self._waiting[future] = job
            future.add_done_callback(ended.put)
        seen = time.monotonic()
        while self._waiting:
            try:
                future = ended.get(timeout=_LOOK_SECONDS)
            except Empty:
                if self._count():
                    seen = time.monotonic()
                elif time.monotonic() - seen > _GONE_SECONDS:
                    raise NoCluster(
                        f"The scheduler at {self._address} has no workers any more. {_GO_ON}"
                    ) from None
                continue
            if future.status == "cancelled":
                raise NoCluster(f"The scheduler at {self._address} is gone. {_GO_ON}")
            job = self._waiting.pop(future)
            if future.status == "finished":
                yield job, future.result()
            elif isinstance(error := future.exception(), UnfitWorker):
                raise NoCluster(f"A Dask worker that joined meanwhile cannot grade: {error}. {_GO_ON}")
            else:
                yield job, unfinished(job, f"The grader failed on this submission: {_told(error)}.")

    def close(self) -> None:
        """End the batch on the workers and leave the cluster, which goes on without this class."""
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._waiting))
            self._client.run(close_workshops, self._batch)
        with contextlib.suppress(Exception):
            self._client.close()
