"""What runs short is told once, and once more when there is room."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from resonantgenesis_server import shortage
from resonantgenesis_server.metrics import METERS
from resonantgenesis_server.shortage import LoopTime, Reading, Resource, ShortageWatch
from structlog.testing import capture_logs


def test_a_crossing_is_told_once_and_its_end_as_well() -> None:
    shares = iter([0.7, 0.85, 0.95, 0.75, 0.85, 0.6, 0.85])
    watched = Resource(
        "memory", lambda: Reading(share := next(shares), share * 10, 10), 0.8, 0.7, "give it more"
    )
    watch = ShortageWatch([watched])
    with capture_logs() as lines:
        for _ in range(7):
            watch.look()
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("warning", "memory runs short: give it more"),
        ("info", "there is room again: memory"),
        ("warning", "memory runs short: give it more"),
    ]
    assert lines[0]["percent"] == 85


def test_what_the_system_does_not_tell_is_never_short() -> None:
    watched = Resource("memory", lambda: None, 0.8, 0.7, "")
    with capture_logs() as lines:
        ShortageWatch([watched]).look()
    assert lines == []


def test_open_files_are_counted() -> None:
    before = shortage.descriptors()
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    after = shortage.descriptors()
    for descriptor in opened:
        os.close(descriptor)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] == resource.RLIM_INFINITY:
        assert before is after is None
        return
    assert before is not None and after is not None
    assert after.used >= before.used + 15


def test_a_disk_is_short_where_less_is_free_than_has_to_be(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    reading = shortage.disk(tmp_path, total)  # more than can be: a tenth of the disk is enough
    assert reading is not None
    assert reading.share == pytest.approx(total // 10 / free, rel=0.05)
    assert shortage.disk(tmp_path / "gone", 0) is None


def test_memory_of_a_control_group_counts_before_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = shortage.memory()
    assert machine is not None and 0 < machine.share < 1
    group = tmp_path / "groups" / "a"
    group.mkdir(parents=True)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/a\n")
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("950\n")
    (group / "memory.stat").write_text("anon 900\ninactive_file 50\n")
    monkeypatch.setattr(shortage, "_PROC", tmp_path)
    monkeypatch.setattr(shortage, "_CGROUPS", tmp_path / "groups")
    assert shortage.memory() == Reading(0.9, 900, 1000)
    (group / "memory.max").write_text("max\n")
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 25 kB\n")
    assert shortage.memory() == Reading(0.75, 75 * 1024, 100 * 1024)


def test_a_late_loop_is_told_by_its_average() -> None:
    loop = LoopTime()
    assert loop.read() is None
    for late in (0.0, 0.1, 0.2):
        METERS.loop_lag.add(late)
    reading = loop.read()
    assert reading is not None and reading.share == pytest.approx(1.0)
    assert loop.read() is None
