"""Who gives way when there is no room for one more connection."""

from __future__ import annotations

import random
import time
from collections import Counter

from resonantgenesis_server.http.serving.connection_limit import SilentConnections


class Connection:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.speaks = False
        self.gone = False

    def give_way(self) -> None:
        self.gone = True


def waiting(silent: SilentConnections, **addresses: int) -> dict[str, list[Connection]]:
    """So many of each address, in this order."""
    made: dict[str, list[Connection]] = {}
    for address, count in addresses.items():
        made[address] = [Connection(f"{address}{number}") for number in range(count)]
        for connection in made[address]:
            silent.add(connection, address)
    return made


def gone(*connections: list[Connection]) -> list[str]:
    return [each.name for some in connections for each in some if each.gone]


def test_the_longest_silent_of_the_busiest_address() -> None:
    silent = SilentConnections()
    made = waiting(silent, a=1, b=3, c=2)
    silent.add(made["b"][0], "b")  # it has spoken, and is silent again
    assert silent.displace()
    assert gone(*made.values()) == ["b1"]
    assert silent.displace()  # b and c have as many: the one that has had them for longer
    assert gone(*made.values()) == ["b1", "c0"]
    assert silent.displace()
    assert gone(*made.values()) == ["b1", "b2", "c0"]


def test_nobody_keeps_another_address_out() -> None:
    silent = SilentConnections()
    other = waiting(silent, other=1)["other"][0]
    crowd = waiting(silent, crowd=1_000)["crowd"]
    for _ in range(900):
        assert silent.displace()
    assert not other.gone
    assert len(gone(crowd)) == 900
    assert len(silent) == 101


def test_one_that_is_just_speaking_is_passed_over() -> None:
    silent = SilentConnections()
    (made,) = waiting(silent, a=3).values()
    made[0].speaks = True
    assert silent.displace()
    assert gone(made) == ["a1"]
    for each in made:
        each.speaks = True
    assert not silent.displace()


def test_none_is_silent() -> None:
    silent = SilentConnections()
    assert not silent.displace()
    (made,) = waiting(silent, a=2).values()
    silent.discard(made[0])
    silent.discard(made[1])
    silent.discard(made[1])
    assert not silent.displace()
    assert gone(made) == []


def test_it_is_what_counting_all_of_them_would_say() -> None:
    rng, silent = random.Random(7), SilentConnections()
    told: dict[Connection, str] = {}  # the longest silent first
    for _ in range(3_000):
        step = rng.random()
        if step < 0.5 or not told:
            connection = Connection()
            told[connection] = rng.choice("abcdef")
            silent.add(connection, told[connection])
        elif step < 0.7:
            connection = rng.choice(list(told))
            del told[connection]
            silent.discard(connection)
        else:
            most = max(Counter(told.values()).values())
            before = dict(told)
            assert silent.displace()
            left = [each for each in before if each.gone]
            assert len(left) == 1
            address = told.pop(left[0])
            assert Counter(before.values())[address] == most
            assert next(each for each, of in before.items() if of == address) is left[0]
        assert len(silent) == len(told)


def test_it_takes_no_longer_however_many_there_are() -> None:
    def spent(count: int) -> float:
        silent = SilentConnections()
        for number in range(count):
            silent.add(Connection(), f"address{number}")
        began = time.process_time()
        for number in range(500):
            silent.add(Connection(), f"new{number}")
            silent.displace()
        return time.process_time() - began

    assert spent(20_000) < 20 * spent(200) + 0.05
