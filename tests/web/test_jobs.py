"""How what is made on a page ends before it is done."""

import pytest

from semfacediff.web.jobs import Stop, StoppedError


def test_a_job_runs_until_it_is_stopped():
    stop, told = Stop(), []
    after_step = stop.after_step(lambda *step: told.append(step))
    after_step(1, 3)
    stop.request()
    with pytest.raises(StoppedError, match="Stopped; nothing was changed"):
        after_step(2, 3)
    assert told == [(1, 3)]


def test_a_job_that_tells_nothing_can_be_stopped():
    stop = Stop()
    stop.after_step(None)(1, 3)
    stop.request()
    with pytest.raises(StoppedError):
        stop.after_step(None)(1, 3)
