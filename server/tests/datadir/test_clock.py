"""A step of the machine's clock expires no more than the time that has passed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.codec.events import events_append
from resonantgenesis_server.datadir import clock as clock_file
from resonantgenesis_server.datadir.clock import keeping_clock
from resonantgenesis_server.events.service import EventService
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.maintenance import old_records, old_requests
from resonantgenesis_server.model.clock import Clock, Known
from resonantgenesis_server.model.events import NewEvent, event_stream
from resonantgenesis_server.records.base import RequestName
from resonantgenesis_server.records.store import Records

DAY = 86_400.0
START = 1_790_000_000.0


class Machine:
    """Its clocks, moved by the test."""

    def __init__(self) -> None:
        self.wall = START
        self.steady = 1_000.0
        self.boot = "boot-1"

    def clock(self, known: Known | None = None) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady, boot=self.boot, known=known)

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def steps(self, seconds: float) -> None:
        self.wall += seconds

    def restarts(self, seconds_off: float = 60.0) -> None:
        self.passes(seconds_off)
        self.steady = 20.0
        self.boot += "+"


@pytest.fixture
def machine() -> Machine:
    return Machine()


def settle(machine: Machine, clock: Clock) -> None:
    """Until the clock follows the machine's; somebody asks now and then."""
    for _ in range(8):
        clock.now()
        machine.passes(100)
    assert clock.now() == pytest.approx(machine.wall)


@pytest.mark.parametrize("step", [40 * DAY, -40 * DAY, 3_600.0, -90.0, 400 * DAY])
def test_a_clock_that_is_wrong_for_a_moment_dates_nothing(machine: Machine, step: float) -> None:
    clock = machine.clock()
    machine.passes(5)
    machine.steps(step)
    machine.passes(300)
    assert clock.now() == pytest.approx(START + 305)
    assert clock.passed() == pytest.approx(START + 305)
    assert clock.before(60) == pytest.approx(START + 245)
    machine.steps(-step)
    machine.passes(5)
    assert clock.now() == pytest.approx(machine.wall) == pytest.approx(START + 310)
    assert clock.known().gaps == ()


@pytest.mark.parametrize("step", [40 * DAY, 3_600.0, 90.0])
def test_a_step_that_lasts_is_followed_and_expires_nothing(machine: Machine, step: float) -> None:
    clock = machine.clock()
    old = clock.now()
    machine.passes(10)
    machine.steps(step)
    settle(machine, clock)
    since = clock.passed() - START
    assert since == pytest.approx(810)
    young = clock.now()
    assert old >= clock.before(820) and old < clock.before(800)
    machine.passes(100)
    assert young >= clock.before(110) and young < clock.before(90)
    assert old >= clock.before(920) and old < clock.before(900)


def test_a_step_back_that_lasts_expires_nothing_either(machine: Machine) -> None:
    clock = machine.clock()
    machine.steps(40 * DAY)
    settle(machine, clock)
    old = clock.now()
    for back in (-20 * DAY, -19 * DAY):
        machine.steps(back)
        before = clock.passed()
        settle(machine, clock)
        assert clock.passed() - before == pytest.approx(800)
    assert clock.before(3_000) <= START
    machine.passes(10)
    assert old >= clock.before(0)


def test_small_differences_are_followed_at_once(machine: Machine) -> None:
    clock = machine.clock()
    for _ in range(100):
        machine.passes(1_000)
        machine.steps(0.2)
        assert clock.now() == pytest.approx(machine.wall)
    assert clock.known().gaps == ()


def test_a_stop_is_time_that_passes(machine: Machine) -> None:
    known = machine.clock().known()
    machine.passes(40 * DAY)
    clock = machine.clock(known)
    assert clock.passed() == pytest.approx(START + 40 * DAY)
    assert clock.before(39 * DAY) == pytest.approx(START + DAY)


@pytest.mark.parametrize("step", [40 * DAY, -40 * DAY])
def test_a_step_during_a_stop_is_none(machine: Machine, step: float) -> None:
    known = machine.clock().known()
    machine.passes(600)
    machine.steps(step)
    clock = machine.clock(known)
    assert clock.now() == pytest.approx(START + 600)
    settle(machine, clock)
    assert clock.passed() == pytest.approx(START + 1_400)
    assert clock.before(1_500) <= START


def test_a_machine_that_was_off_is_believed_after_a_day(machine: Machine) -> None:
    clock = machine.clock()
    known = clock.known()
    machine.restarts()
    machine.steps(40 * DAY)
    clock = machine.clock(known)
    assert clock.now() == pytest.approx(machine.wall)  # there is no better one
    assert clock.before(30 * DAY) <= START
    assert clock.passed() == pytest.approx(START)
    again = machine.clock(clock.known())
    machine.passes(DAY - 100)
    assert again.before(30 * DAY) <= START
    machine.passes(200)
    assert again.before(30 * DAY) > START
    assert again.passed() == pytest.approx(machine.wall)


def test_a_clock_that_is_right_again_after_a_restart(machine: Machine) -> None:
    known = machine.clock().known()
    machine.restarts()
    machine.steps(40 * DAY)
    known = machine.clock(known).known()
    machine.steps(-40 * DAY)
    clock = machine.clock(known)
    settle(machine, clock)
    assert clock.passed() == pytest.approx(START + 800, abs=1)
    assert clock.before(DAY) <= START


def test_a_machine_that_starts_without_the_time(machine: Machine) -> None:
    known = machine.clock().known()
    machine.restarts(3_600)
    machine.wall = 0.0  # until NTP has set it
    clock = machine.clock(known)
    machine.passes(30)
    assert clock.now() == pytest.approx(START + 30)
    machine.wall = START + 3_630
    assert clock.now() == pytest.approx(START + 30)
    settle(machine, clock)
    assert clock.passed() == pytest.approx(START + 830)
    assert clock.before(DAY) <= START


MOVES = st.lists(
    st.tuples(st.sampled_from(["pass", "step", "stop"]), st.floats(-1e7, 1e7)), max_size=40
)


@given(MOVES, st.floats(0, 1e7))
@settings(max_examples=200)
def test_nothing_expires_before_its_time(moves: list[tuple[str, float]], limit: float) -> None:
    machine = Machine()
    clock = machine.clock()
    made: list[tuple[float, float, float]] = []
    for kind, amount in moves:
        made.append((machine.steady, clock.now(), clock.passed()))
        if kind == "pass":
            # Somebody looks now and then, as the keeper does every second.
            for _ in range(20):
                machine.passes(abs(amount) % 100)
                clock.now()
        elif kind == "step":
            machine.steps(amount)
        else:
            clock = machine.clock(clock.known())
        slack = 5 + machine.steady * 0.001
        before, passed = clock.before(limit), clock.passed()
        for steady, date, passed_then in made:
            really = machine.steady - steady
            assert abs((passed - passed_then) - really) < slack
            if date < before:
                assert really > limit - slack
    assert len(clock.known().gaps) <= 64


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_what_is_known_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clock"
    machine = Machine()
    made: list[Clock] = []

    def make(*, boot: str, known: Known | None) -> Clock:
        made.append(machine.clock(known))
        return made[-1]

    monkeypatch.setattr(clock_file, "Clock", make)
    async with keeping_clock(path) as clock:
        machine.steps(40 * DAY)
        settle(machine, clock)
        known = clock.known()
    assert path.stat().st_mode & 0o777 == 0o600
    async with keeping_clock(path) as again:
        assert dataclasses.replace(again.known(), steady=0) == dataclasses.replace(known, steady=0)
    for damaged in ("", "{", "[]", json.dumps({"now": "x"}), "\0" * 100):
        path.write_text(damaged)
        async with keeping_clock(path) as fresh:
            assert fresh.known().gaps == ()


@pytest.mark.anyio
async def test_a_jump_forgets_no_key_and_no_event_and_dates_nothing(tmp_path: Path) -> None:
    machine = Machine()
    clock = machine.clock()
    log = await SqliteLog.open(tmp_path / "log.db", clock=clock)
    records = await Records.open(
        f"sqlite:///{tmp_path / 'records.db'}", clock=clock.now, passed=clock.passed
    )
    events = EventService(log, Hub(), max_data=1_000, clock=clock)
    organization = await records.organizations.create("one")
    name = RequestName(organization.id, "", "/v1/files", "key")
    event = NewEvent(
        "evt_1", "app.x", {}, {"organization_id": "org_1", "key_id": None, "request_id": None}
    )
    assert await log.claim("scope", "key", b"value", ttl=DAY) is None
    assert (await records.idempotency.reserve(name, "f", "file_1", window=DAY)).thing == "file_1"
    await records.idempotency.finish(name, 201, b"{}")
    await events_of(log, event)

    async def all_is_there() -> None:
        assert await log.claim("scope", "key", b"other", ttl=DAY) == b"value"
        assert await old_requests(records.idempotency, DAY, clock).run() == 0
        known = await records.idempotency.get(name, window=DAY)
        assert known is not None and known.body == b"{}"
        assert await events.trim_before("org_1", 30 * DAY) == 0
        assert await old_records("usage", records.usage, 400 * DAY, clock).run() == 0

    machine.steps(40 * DAY)
    await all_is_there()
    await events_of(log, event)
    page = await log.read(event_stream("org_1"), 0)
    assert page.entries[-1].at < (START + 60) * 1e6
    settle(machine, clock)  # it was no moment
    await all_is_there()
    machine.passes(DAY)
    assert await log.lookup("scope", "key") is None
    assert await records.idempotency.get(name, window=DAY) is None
    await records.close()
    await log.close()


async def events_of(log: SqliteLog, event: NewEvent) -> None:
    await log.append(*events_append("org_1", [event]))
