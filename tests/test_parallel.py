"""Work over processes: order, errors, workers that die. The jobs stand at module level, where a worker finds them."""

import os
import signal
import time
from pathlib import Path

import cv2
import pytest
import threadpoolctl
import torch

from wmlib import parallel


@pytest.fixture(scope="module", autouse=True)
def two_workers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "cores", lambda: 2)
        parallel.stop()
        yield
        parallel.stop()


def square(number):
    return number * number


def combine(first, second):
    return f"{first}-{second}"


def slowest_first(number, folder):
    """Job 0 ends only when job 1 has."""
    if number == 0:
        wait_for(Path(folder) / "done")
    if number == 1:
        (Path(folder) / "done").touch()
    return number


def fail(number):
    if number == 2:
        raise ValueError(f"track {number} has no road")
    return number


def die_once(number, marker):
    """Job 1 kills its worker, but only the first time that it runs."""
    if number == 1 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * number


def count_and_die_once(number, folder):
    """Every job leaves a line each time that it runs; job 1 kills its worker the first time, when job 0 is known."""
    lines = Path(folder) / f"{number}"
    with open(lines, "a") as file:
        file.write("run\n")
    if number == 1:
        wait_for(Path(folder) / "go")
        if len(lines.read_text().splitlines()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_when_told(number, folder):
    """Job 1 kills its worker every time, once job 0 is known."""
    if number == 1:
        wait_for(Path(folder) / "go")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_or_leave_a_mark(number, folder):
    """Job 0 fails; the others wait for a sign, then leave a mark."""
    if number == 0:
        raise ValueError("no road")
    wait_for(Path(folder) / "go")
    (Path(folder) / f"mark{number}").touch()


def threads(_):
    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return os.getpid(), torch.get_num_threads(), cv2.getNumThreads(), pools


def wait_for(path):
    """Until the file is there, for a minute at most."""
    for _ in range(6000):
        if path.exists():
            return
        time.sleep(0.01)
    raise TimeoutError(path)


def test_results_come_in_the_order_of_the_jobs():
    assert list(parallel.run(square, [(number,) for number in range(20)])) == [
        number**2 for number in range(20)
    ]


def test_the_order_holds_when_the_first_job_ends_last(tmp_path):
    assert list(parallel.run(slowest_first, [(number, tmp_path) for number in range(4)])) == [
        0,
        1,
        2,
        3,
    ]


def test_a_jobs_entries_are_the_functions_arguments():
    assert list(parallel.run(combine, [("a", 1), ("b", 2)])) == ["a-1", "b-2"]


def test_no_jobs_give_no_results():
    assert list(parallel.run(square, [])) == []


def test_jobs_may_come_from_a_generator():
    assert list(parallel.run(square, ((number,) for number in range(3)))) == [0, 1, 4]


def test_jobs_run_in_other_processes_that_stay():
    first = {pid for pid, *_ in parallel.run(threads, [(i,) for i in range(6)])}
    second = {pid for pid, *_ in parallel.run(threads, [(i,) for i in range(6)])}
    assert os.getpid() not in first and len(first | second) <= 2


def test_a_worker_has_one_thread_in_every_library():
    for _, in_torch, in_opencv, pools in parallel.run(threads, [(i,) for i in range(4)]):
        assert in_torch == in_opencv == 1 and set(pools) <= {1}


def test_a_jobs_own_error_reaches_the_caller():
    results = parallel.run(fail, [(number,) for number in range(4)])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="track 2 has no road"):
        next(results)


def test_after_an_error_the_workers_go_on():
    with pytest.raises(ValueError):
        list(parallel.run(fail, [(2,)]))
    assert list(parallel.run(square, [(3,)])) == [9]


def test_after_an_error_the_jobs_that_have_not_begun_are_dropped(tmp_path):
    with pytest.raises(ValueError, match="no road"):
        list(parallel.run(fail_or_leave_a_mark, [(number, tmp_path) for number in range(20)]))
    (tmp_path / "go").touch()
    assert list(parallel.run(square, [(3,)])) == [9]
    assert len(list(tmp_path.glob("mark*"))) < 10


def test_a_worker_that_is_killed_once_costs_nothing(tmp_path):
    jobs = [(number, tmp_path / "marker") for number in range(5)]
    assert list(parallel.run(die_once, jobs)) == [0, 10, 20, 30, 40]
    assert (tmp_path / "marker").exists()


def test_what_was_finished_before_a_death_is_not_done_again(tmp_path):
    results = parallel.run(count_and_die_once, [(number, tmp_path) for number in range(2)])
    assert next(results) == 0
    (tmp_path / "go").touch()
    assert next(results) == 1
    assert [len((tmp_path / name).read_text().splitlines()) for name in "01"] == [1, 2]


def test_a_job_that_always_kills_its_worker_is_named(tmp_path):
    results = parallel.run(die_when_told, [(number, tmp_path) for number in range(2)])
    assert next(results) == 0
    (tmp_path / "go").touch()
    with pytest.raises(RuntimeError, match="a worker process died twice, last in job 1"):
        next(results)


def test_after_two_deaths_the_next_run_has_new_workers():
    assert list(parallel.run(square, [(3,)])) == [9]


def test_a_worker_that_was_killed_between_two_runs_costs_nothing():
    (worker, *_), *_ = parallel.run(threads, [(0,)])
    manager = parallel._pool._executor_manager_thread
    os.kill(worker, signal.SIGKILL)
    manager.join(60)
    assert list(parallel.run(square, [(number,) for number in range(3)])) == [0, 1, 4]


def test_stopped_workers_are_started_again():
    parallel.stop()
    assert list(parallel.run(square, [(4,)])) == [16]
