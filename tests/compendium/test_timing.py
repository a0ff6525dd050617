"""The one timer: the shortest call's seconds and the last one's result."""

import pytest

from shared.compendium import timed


def test_the_shortest_call_counts(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr("time.process_time", lambda: next(clock))
    results = iter("abc")
    assert timed(lambda: next(results), repeats=3) == (2.0, "c")


def test_processor_time_leaves_waiting_out():
    import time

    seconds, _ = timed(lambda: time.sleep(0.2))
    assert seconds < 0.15


def test_no_repeats_is_refused():
    with pytest.raises(ValueError, match="repeats=0 is out of range"):
        timed(lambda: None, repeats=0)
