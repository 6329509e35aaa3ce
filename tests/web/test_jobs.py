"""What runs for visitors: each job ends when it is asked to, and all of them when the server does."""

import threading

import pytest

from semfacediff.web.jobs import Jobs, Stop, StoppedError

SOON_S, LONG_S = 0.05, 60


def steps(stop, begun):
    """Goes on until it is stopped."""
    pause = threading.Event()
    begun.set()
    while True:
        stop.check()
        pause.wait(0.01)


def job(jobs, begun, ended):
    with pytest.raises(StoppedError), jobs.running() as stop:
        steps(stop, begun)
    ended.set()


def test_a_job_runs_until_it_is_stopped():
    stop = Stop()
    with Jobs().running(stop) as same:
        assert same is stop
        stop.check()
        stop.now()
        with pytest.raises(StoppedError, match="Stopped; everything is as it was before"):
            stop.check()


def test_who_ends_a_job_may_say_why():
    stop = Stop("a photo")
    stop.now("Another photo was loaded")
    with pytest.raises(StoppedError, match=r"^Another photo was loaded$"):
        stop.check()
    assert stop.of == "a photo"


def test_one_that_was_stopped_before_its_turn_does_not_begin():
    stop, jobs = Stop(), Jobs()
    stop.now()
    with pytest.raises(StoppedError), jobs.running(stop):
        pytest.fail("it began")
    assert jobs.end(SOON_S)


def test_the_end_stops_all_that_run_and_waits_for_them():
    jobs, begun, ended = Jobs(), [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]
    threads = [
        threading.Thread(target=job, args=(jobs, *events), daemon=True) for events in zip(begun, ended, strict=True)
    ]
    for thread in threads:
        thread.start()
    assert all(event.wait(LONG_S) for event in begun)
    assert jobs.end(LONG_S)
    assert all(event.wait(LONG_S) for event in ended)


def test_nothing_begins_after_the_end():
    jobs = Jobs()
    assert jobs.end(SOON_S)
    with pytest.raises(StoppedError), jobs.running():
        pytest.fail("it began")


def test_a_job_that_does_not_listen_is_told_of():
    jobs = Jobs()
    with jobs.running():
        assert not jobs.end(SOON_S)
    assert jobs.end(SOON_S)


def test_a_job_that_fails_is_over():
    jobs = Jobs()
    with pytest.raises(ZeroDivisionError), jobs.running():
        _ = 1 / 0
    assert jobs.end(SOON_S)
