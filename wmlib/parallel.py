"""run(function, jobs): the same results in the same order, however many processes share the work."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2
import torch
from threadpoolctl import threadpool_limits

_pool: ProcessPoolExecutor | None = None


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(function: Callable, jobs: Iterable[tuple]) -> Iterator:
    """Yield function(*job) for every job, in the order of the jobs, computed on all cores.

    function must be importable by name. An error in a job reaches the caller. A killed worker costs only time: the
    workers are started once more and the unfinished jobs with them; a second death is a RuntimeError.
    """
    jobs = list(jobs)
    futures, finished, deaths = {}, {}, 0
    try:
        for index in range(len(jobs)):
            while True:
                try:
                    futures = futures or _submit(function, jobs, finished)
                    result = futures[index].result()
                    break
                except BrokenProcessPool:
                    deaths += 1
                    stop()
                    if deaths > 1:
                        raise RuntimeError(f"a worker process died twice, last in job {index}; is there enough memory?") from None
                    finished, futures = futures, {}
            yield result
    finally:
        for future in futures.values():
            future.cancel()


def stop() -> None:
    """End the worker processes; the next `run` starts new ones."""
    global _pool
    if _pool is not None:
        _pool.shutdown(wait=False, cancel_futures=True)
        _pool = None


def _submit(function: Callable, jobs: list[tuple], futures: dict[int, Future]) -> dict[int, Future]:
    """A future for every job: those that have a result are kept, the others are submitted."""
    global _pool
    if _pool is None:
        spawn = multiprocessing.get_context("spawn")
        _pool = ProcessPoolExecutor(cores(), mp_context=spawn, initializer=_start_worker)
    done = {i: future for i, future in futures.items() if future.done() and not future.cancelled() and not future.exception()}
    return {i: done[i] if i in done else _pool.submit(function, *job) for i, job in enumerate(jobs)}


def _start_worker() -> None:
    """One thread in every library, so that results don't depend on the number of cores; Ctrl-C ends a worker quietly."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threadpool_limits(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
