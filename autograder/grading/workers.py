"""Who runs the jobs: threads of this process with a workshop each, or the workers of a Dask cluster."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from autograder.grading.job import Job, grade
from autograder.grading.model import Result, Status
from autograder.grading.workshop import Workshop, WorkshopError

_here = threading.local()
_opened: list[Workshop] = []
_lock = threading.Lock()


class NoCluster(ConnectionError):
    """No Dask scheduler answers at the address; the message says so."""


def _workshop(isolated: bool, fresh: bool = False) -> Workshop:
    """This thread's warm processes; made at the first use and again when they are gone."""
    current: Workshop | None = getattr(_here, "workshop", None)
    if current is not None and (fresh or current.isolated != isolated or not current.alive()):
        current.close()
        current = None
    if current is None:
        current = Workshop(isolated=isolated)
        _here.workshop = current
        with _lock:
            _opened.append(current)
    return current


def run_job(job: Job) -> Result:
    """Grade one submission on this thread; the same function on every kind of worker.

    A submission with which the warm processes end twice is left to a person; the batch goes on.
    """
    for attempt in range(2):
        try:
            return grade(job, _workshop(job.isolated, fresh=attempt > 0))
        except WorkshopError as error:
            problem = str(error)
    return unfinished(job, f"The grader's own processes ended twice with this submission ({problem}).")


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


def close_workshops() -> None:
    """End every warm process that this process started."""
    with _lock:
        while _opened:
            _opened.pop().close()
    _here.__dict__.clear()


class LocalWorkers:
    """Threads of this process; the student code runs in their sandboxes."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._barrier = threading.Barrier(count)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="grader")

    def warm_up(self, isolated: bool) -> None:
        """Start the warm processes of all workers at once.

        Raises:
            WorkshopError: one of them did not start.
        """

        def one(_: int) -> None:
            # The barrier gives each thread exactly one of these calls.
            self._barrier.wait(timeout=60)
            _workshop(isolated)

        list(self._pool.map(one, range(self.count)))

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """Every job with its result, as they end."""
        futures = {self._pool.submit(run_job, job): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()
            job = futures[future]
            if error is not None:
                yield job, unfinished(job, f"The grader failed on this submission: {error}.")
            else:
                yield job, future.result()

    def close(self) -> None:
        """End the threads and their warm processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        close_workshops()


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
        self.count = len(self._client.scheduler_info(n_workers=-1)["workers"])
        if not self.count:
            self.close()
            raise NoCluster(f"The scheduler at {address} has no workers: start some with 'dask worker'.")

    def warm_up(self, isolated: bool) -> None:
        """The workers warm up with their first job."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """Every job with its result, as they end."""
        from distributed import as_completed as completed

        futures = {self._client.submit(run_job, job, pure=False, retries=1): job for job in jobs}
        for future in completed(futures, loop=self._client.loop):
            job = futures[future]
            if future.status == "finished":
                yield job, future.result()
            else:
                yield job, unfinished(job, f"The grader failed on this submission: {future.exception()}.")

    def close(self) -> None:
        """Leave the cluster, which goes on without this class."""
        with contextlib.suppress(Exception):
            self._client.close()
