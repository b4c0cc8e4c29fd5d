"""The clocks of a step: on a GPU two events, which are asked for and never waited for."""

import time

import pytest
import torch
from shift_engine.clock import EventClock, WallClock, step_clock


class Event:
    """A CUDA event on a stream that comes as far as it is told. Whatever waits for a stream is not here."""

    made = 0
    recorded = 0
    reached = 0  # so many of the events recorded so far have passed on the stream

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        Event.made += 1

    def record(self, stream: str) -> None:
        assert stream == "the step's"
        Event.recorded += 1
        self._at = Event.recorded

    def query(self) -> bool:
        return self._at <= Event.reached

    def elapsed_time(self, end: "Event") -> float:
        assert end.query()
        return 3.0 * (end._at - self._at)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> EventClock:
    monkeypatch.setattr("torch.cuda.Event", Event)
    for count in ("made", "recorded", "reached"):
        monkeypatch.setattr(Event, count, 0)
    return EventClock(lambda: "the step's")


def test_a_steps_time_is_known_when_the_stream_has_come_to_its_end(clock: EventClock) -> None:
    step, next_step = (clock.now(), clock.now()), (clock.now(), clock.now())
    assert clock.seconds(*step) is None
    Event.reached = 3
    assert clock.seconds(*step) == pytest.approx(0.003)
    assert clock.seconds(*next_step) is None


def test_events_are_used_again(clock: EventClock) -> None:
    for _ in range(50):
        steps = [(clock.now(), clock.now()) for _ in range(4)]
        Event.reached = Event.recorded
        assert [clock.seconds(*step) for step in steps] == [pytest.approx(0.003)] * 4
    assert (Event.made, Event.recorded) == (8, 400)


def test_on_cpu_a_steps_time_is_known_at_once() -> None:
    clock = step_clock(torch.device("cpu"), lambda: None)
    assert isinstance(clock, WallClock)
    before = time.perf_counter()
    began, ended = clock.now(), clock.now()
    after = time.perf_counter()
    assert before <= began <= ended <= after
    assert clock.seconds(began, ended) == ended - began
