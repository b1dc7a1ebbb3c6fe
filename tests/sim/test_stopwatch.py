import time

import pytest
from threadpoolctl import threadpool_info

from pliant_sim.stopwatch import REPETITIONS, Stopwatch, first_and_best_seconds


def test_stages_are_told_of_and_timed():
    seen = []
    watch = Stopwatch(lambda *stage: seen.append(stage))
    assert watch.time("work", lambda: time.sleep(0.02) or 7) == 7
    assert seen == [("work", 0, 1), ("work", 1, 1)]
    assert 0.02 <= watch.seconds["work"] < 1


def test_a_stage_that_fails_is_not_done():
    seen = []
    with pytest.raises(ZeroDivisionError):
        Stopwatch(lambda *stage: seen.append(stage)).time("work", lambda: 1 // 0)
    assert seen == [("work", 0, 1)]


def test_the_first_run_is_told_from_the_fastest_of_the_others(monkeypatch):
    lengths = iter([2, 9, 5, 7, 8, 6])  # the first is the fastest, and does not count
    clock = [100]

    def run():
        clock[0] += next(lengths)

    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    assert first_and_best_seconds(run) == (2, 5)
    assert REPETITIONS == 5
    assert next(lengths, None) is None


def test_timed_functions_have_one_thread():
    import numpy  # noqa: F401 - its BLAS is one of the pools

    threads = []
    first_and_best_seconds(lambda: threads.extend(
        pool["num_threads"] for pool in threadpool_info()))
    assert threads
    assert set(threads) == {1}
