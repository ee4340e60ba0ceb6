"""run(function, jobs): the same results in the same order, on this machine's cores or on a Ray cluster."""

import importlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cv2
import torch
from threadpoolctl import threadpool_limits

from wmlib.envs.task import TASKS

_pool: ProcessPoolExecutor | None = None
_ray: Any = None  # the module, once `use_cluster` has joined a cluster


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(function: Callable, jobs: Iterable[tuple]) -> Iterator:
    """Yield function(*job) for every job, in the order of the jobs, computed on all cores.

    function must be importable by name. An error in a job reaches the caller. A killed worker costs only time: the
    workers are started once more and the unfinished jobs with them; a second death is a RuntimeError.
    """
    yield from _run_on_cluster(function, list(jobs)) if _ray else _run_here(function, list(jobs))


def use_cluster(address: str) -> None:
    """Send the jobs of every later `run` to the Ray cluster at `address`, such as 10.0.0.1:6379.

    Its nodes need this package installed and see a run's folder under the same path. A node that is lost costs only
    time. Raises RuntimeError when Ray is not installed or no cluster answers.
    """
    global _ray
    try:
        import ray
    except ImportError:
        raise RuntimeError("a cluster needs Ray; run pip install ray") from None
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError):
        hint = "ray start --head starts one and prints its address"
        raise RuntimeError(f"no Ray cluster answers at {address!r}; {hint}") from None
    ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    _ray = ray


def stop() -> None:
    """End the worker processes and leave the cluster; the next `run` starts new workers here."""
    global _pool, _ray
    if _pool is not None:
        _pool.shutdown(wait=False, cancel_futures=True)
    if _ray is not None:
        _ray.shutdown()
    _pool = _ray = None


def _run_here(function: Callable, jobs: list[tuple]) -> Iterator:
    futures = [_submit(function, job) for job in jobs]
    started_again = False
    try:
        for index in range(len(jobs)):
            while isinstance(
                futures[index].exception(), BrokenProcessPool
            ):  # waits until the job has ended
                stop()
                if started_again:
                    raise RuntimeError(
                        f"a worker process died twice, last in job {index}; is there enough memory?"
                    )
                started_again = True
                for other, future in enumerate(futures):
                    if (
                        not future.done() or future.cancelled() or future.exception()
                    ):  # it has no result
                        futures[other] = _submit(function, jobs[other])
            yield futures[index].result()
    finally:
        for future in futures:
            future.cancel()


def _submit(function: Callable, job: tuple) -> Future:
    """A job's future; where the workers have died meanwhile, one that says so."""
    global _pool
    if _pool is None:
        spawn = multiprocessing.get_context("spawn")
        _pool = ProcessPoolExecutor(
            cores(), spawn, initializer=_start_worker, initargs=(_homes_of_tasks(),)
        )
    try:
        return _pool.submit(function, *job)
    except BrokenProcessPool as error:
        future: Future = Future()
        future.set_exception(error)
        return future


def _homes_of_tasks() -> list[str]:
    """The modules that register the tasks there are: a worker imports them to know the same ones."""
    return sorted({task.make.__module__ for task in TASKS.values()})


def _start_worker(modules: list[str]) -> None:
    """Ctrl-C ends a worker quietly, and no worker outlives the process that started it."""
    _prepare(modules)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _prepare(modules: list[str]) -> None:
    """One thread in every library, so that results don't depend on the number of cores, and the same tasks."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threadpool_limits(1)
    for module in modules:
        importlib.import_module(module)


def _die_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def _run_on_cluster(function: Callable, jobs: list[tuple]) -> Iterator:
    remote = _ray.remote(num_cpus=1, max_retries=3)(_run_alone)
    waiting = {
        index: remote.remote(function, job, _homes_of_tasks()) for index, job in enumerate(jobs)
    }
    try:
        for index in range(len(jobs)):
            try:
                result = _ray.get(waiting.pop(index))
            except _ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except _ray.exceptions.RayError as error:
                lost = f"the cluster lost job {index} four times ({type(error).__name__})"
                raise RuntimeError(f"{lost}; do its nodes have enough memory?") from None
            yield result
    finally:
        for reference in waiting.values():
            _ray.cancel(reference)


def _run_alone(function: Callable, job: tuple, modules: list[str]):
    _prepare(modules)
    return function(*job)
