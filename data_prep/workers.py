"""The same work in this process, in several on this machine, or on a Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

from data_prep.errors import DataError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

AHEAD = 1000
"""Tasks that a scheduler knows at a time: enough for any cluster, and 200,000 series do not fill its memory."""

WORKER_MEMORY = "2GiB"
"""A worker on this machine that needs more is stopped, and its scan recorded."""


def spread(
    work: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    lost: Callable[[Task, BaseException], Outcome],
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[Outcome]:
    """Does all tasks and gives what comes of them, as it comes.

    Args:
        work: what is done with a task; it can be pickled, and does not raise.
        tasks: can be pickled.
        lost: what comes of a task whose worker was lost, time and again, also when nothing else ran.
        workers: processes on this machine; 1 works in this one.
        scheduler: address of a Dask scheduler, such as ``tcp://node:8786``, whose workers see the same files.

    Raises:
        DataError: no Dask, or no scheduler there.
    """
    if workers == 1 and scheduler is None:
        yield from map(work, tasks)
        return
    with _client(workers, scheduler) as client:
        from distributed import as_completed

        waiting = iter(tasks)
        running = {client.submit(work, task, pure=False): task for task in islice(waiting, AHEAD)}
        done = as_completed(list(running))
        suspects = []
        for future in done:
            task = running.pop(future)
            if future.exception() is None:
                yield future.result()
            else:
                suspects.append(task)
            for following in islice(waiting, 1):
                future = client.submit(work, following, pure=False)
                running[future] = following
                done.add(future)
        # Dask also blames what only waited on a worker that was lost: alone, each shows whether it was the cause
        for task in suspects:
            future = client.submit(work, task, pure=False)
            error = future.exception()
            yield future.result() if error is None else lost(task, error)


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    """A client of the scheduler, or of a cluster on this machine that ends with it."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise DataError("Several workers need Dask: pip install distributed.") from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=20)
        except (OSError, ValueError) as error:
            raise DataError(f"--dask {scheduler}: no scheduler there ({error}); expected tcp://HOST:PORT.") from error
        with client:
            yield client
        return
    # One thread each: decoding holds the interpreter, and memory is that of one scan.
    options: dict[str, Any] = {"threads_per_worker": 1, "memory_limit": WORKER_MEMORY, "dashboard_address": None}
    # What a lost worker means for its scan is told in words; Dask's own would name it ten times.
    options["silence_logs"] = logging.CRITICAL
    cluster = LocalCluster(n_workers=workers, **options)
    try:
        with Client(cluster) as client:
            yield client
            with suppress(TimeoutError):  # Dask cannot close a cluster while it replaces a lost worker
                client.wait_for_workers(workers, timeout=30)
    finally:
        with suppress(KeyError):  # workers and scheduler are gone by then; Dask may look for a lost one in its list
            cluster.close()
