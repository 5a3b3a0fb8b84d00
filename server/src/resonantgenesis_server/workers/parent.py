"""The parent of the workers: starts them, starts dead ones again, drains and rolls them.

SIGTERM or SIGINT drains them in turn, a second one ends them at once; SIGHUP replaces one after the
other, each by a new one that reads the settings anew and is ready first. The parent itself keeps
the settings of its start: address, data directory and number of workers.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from ..background import Backoff
from ..config.load import load_settings, secrets_of, warn_of_settings
from ..config.settings import Settings
from ..datadir.lock import lock_data
from ..http.serving.hangup import watch_terminal
from ..http.serving.listener import CannotListen, Listener, listen
from ..http.serving.shared_listener import ConnectionCounts
from ..http.serving.shared_memory import SharedPages
from ..logging.setup import hide, open_logs
from ..logging.startup import StartupError
from .process import WorkerOrders, WorkerProcess
from .reload import LOOK, SourceWatch

log_ = structlog.get_logger("resonantgenesis.workers")

#: Seconds after its start within which the end of a worker is an early one, as it is before the
#: worker was ready, and the number of early ones in a row after which the server gives up if no
#: worker is ready.
_EARLY, _GIVE_UP = 10.0, 5
#: Seconds before a dead worker is started again: first, and at most.
_RESTART_FIRST, _RESTART_MAX = 0.2, 10.0
#: Seconds between two looks while something is under way, and else.
_LOOK, _IDLE = 0.05, 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Settings that all workers of a server have in common, so that only a restart changes them.
_IN_COMMON = ("host", "port", "data", "workers", "store")


def serve_with_workers(
    arguments: Mapping[str, Any],
    config: Path | None,
    settings: Settings,
    count: int,
    *,
    reload: bool = False,
) -> int:
    """Serve with `count` workers until a signal; returns the exit code. Each worker loads its
    settings from `arguments` and `config`. With `reload` workers are replaced when files of their
    agents change. Raises StartupError, with one line."""
    with open_logs(settings.log_level, settings.log_format, secrets_of(settings)):
        warn_of_settings(settings)
        try:
            with (
                lock_data(settings.data),
                listen(settings.host, settings.port, settings.scheme) as listener,
            ):
                orders = WorkerOrders(
                    arguments,
                    config,
                    listener.url,
                    listener.socket.fileno(),
                    counts=ConnectionCounts.create(2 * count),
                    pages=SharedPages.create(2 * count),
                    reload=reload,
                )
                return WorkerParent(orders, settings, count, listener).run()
        except CannotListen as error:
            raise StartupError(str(error)) from error


class _Post:
    """The place of one worker: who holds it, and who is to follow."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        self.successor: WorkerProcess | None = None
        self.backoff = Backoff(_RESTART_FIRST, _RESTART_MAX)
        #: When a dead worker is started again.
        self.due = 0.0


class WorkerParent:
    """Supervises `count` workers in `run`."""

    def __init__(
        self, orders: WorkerOrders, settings: Settings, count: int, listener: Listener
    ) -> None:
        self._orders, self._settings, self._listener = orders, settings, listener
        self._drain_seconds = settings.drain_seconds
        self._counts = ConnectionCounts(orders.counts)
        self._pages = SharedPages(orders.pages)
        self._posts = [_Post(number) for number in range(1, count + 1)]
        #: Every process that has not ended.
        self._running: list[WorkerProcess] = []
        #: The nodes of the last workers that have ended.
        self._ended: deque[int] = deque(maxlen=4 * count)
        self._selector = selectors.DefaultSelector()
        self._signals: deque[int] = deque()
        self._to_roll: deque[_Post] = deque()
        #: The worker that its successor has replaced, until it has ended.
        self._leaving: WorkerProcess | None = None
        self._early = 0
        self._is_serving = False
        self._sources = SourceWatch()
        self._next_look = 0.0
        self._is_outdated = False
        #: Those that are to be told to drain, one after the other; None: the server goes on.
        self._to_drain: deque[WorkerProcess] | None = None
        self._last_told: WorkerProcess | None = None
        self._code = 0
        self._failure: StartupError | None = None
        self._has_lost_terminal = watch_terminal()

    def run(self) -> int:
        """Returns the exit code once all workers have ended. Raises StartupError if the first start
        fails for a reason that a worker names."""
        with self._hearing_signals():
            try:
                while True:
                    while self._signals:
                        self._heard(self._signals.popleft())
                    self._reap()
                    self._kill_late_ones()
                    if self._to_drain is None:
                        self._start_missing()
                        self._let_go()
                        self._announce()
                        self._reload()
                        self._roll()
                    elif not self._running:
                        break
                    else:
                        self._drain_next(self._to_drain)
                    self._wait()
            finally:
                self._kill_all()
        if self._failure is not None:
            raise self._failure
        return self._code

    # -- signals and waiting ---------------------------------------------------------------

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        wakes, woken = socket.socketpair()
        handlers: dict[int, Any] = {}
        with wakes, woken, self._selector:
            wakes.setblocking(False)
            woken.setblocking(False)
            before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
            self._selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
            for number in _SIGNALS:
                handlers[number] = signal.signal(number, self._take_signal)
            # It wakes the parent.
            handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
            try:
                yield
            finally:
                for each, handler in handlers.items():
                    signal.signal(each, handler)
                signal.set_wakeup_fd(before)

    def _take_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _heard(self, number: int) -> None:
        if number == signal.SIGHUP and not self._has_lost_terminal():
            if self._to_drain is None:
                self._begin_roll()
        elif self._to_drain is None:
            log_.info("draining the workers in turn; a second signal stops at once")
            self._begin_drain()
        else:
            self._to_drain.clear()
            self._listener.socket.close()
            for worker in self._running:
                worker.stop()

    def _wait(self) -> None:
        is_calm = (
            self._to_drain is None
            and not self._to_roll
            and self._leaving is None
            and len(self._running) == len(self._posts)
            and all(worker.is_ready for worker in self._running)
        )
        idle = LOOK if self._orders.reload else _IDLE
        for key, _ in self._selector.select(idle if is_calm else _LOOK):
            act: Callable[[], object] = key.data
            act()

    # -- life of the workers ---------------------------------------------------------------

    def _start(self, post: _Post) -> WorkerProcess | None:
        place = self._place_of(post)
        try:
            worker = WorkerProcess(self._orders, post.number, place, self._drain_seconds)
        except OSError as error:
            log_.error("a worker could not be started", worker=post.number, error=str(error))
            post.due = monotonic() + post.backoff.failed()
            return None
        self._running.append(worker)

        def read() -> None:
            was_node = worker.node is not None
            if not worker.read():
                self._selector.unregister(worker.link)
            if worker.files:
                self._sources.add(worker.files, worker.read_at)
                worker.files = []
            if worker.node is not None and not was_node:
                for node in self._ended:
                    worker.hear_end(node)

        self._selector.register(worker.link, selectors.EVENT_READ, read)
        return worker

    def _place_of(self, post: _Post) -> int:
        """One of the two places of a post: during a roll a worker and its successor live at
        once."""
        taken = {worker.place for worker in self._running}
        places = (post.number - 1, post.number - 1 + len(self._posts))
        return next(place for place in places if place not in taken)

    def _start_missing(self) -> None:
        for post in self._posts:
            if post.worker is None and post.due <= monotonic():
                post.worker = self._start(post)

    def _let_go(self) -> None:
        """Let workers go on that have loaded their agents. The embedded store is for one process:
        its next worker waits for the end of the last one."""
        for worker in self._running:
            is_alone = len(self._running) == 1
            if worker.is_loaded and not worker.may_go and (is_alone or not self._is_for_one):
                worker.go()

    def _announce(self) -> None:
        if not self._is_serving and all(p.worker and p.worker.is_ready for p in self._posts):
            self._is_serving = True
            log_.info(
                "serving",
                url=self._listener.url,
                data=str(self._settings.data),
                workers=len(self._posts),
            )

    def _reap(self) -> None:
        for worker in list(self._running):
            code = worker.ended()
            if code is None:
                continue
            self._running.remove(worker)
            self._counts.leave(worker.place)
            self._pages.clear(worker.place)
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.link)
            worker.close()
            self._tell_end(worker.node)
            if worker is self._leaving:
                self._leaving = None
            if worker.told is None:
                self._died(worker, code)
            elif worker.is_ready and code:
                log_.error("a worker did not drain", **_fields(worker, code))
                self._code = self._code if self._to_drain is None else 1

    def _tell_end(self, node: int | None) -> None:
        """Tell the workers of a node that has ended; those to come hear of it when they join."""
        if node is None:
            return
        self._ended.append(node)
        for worker in self._running:
            if worker.node is not None:
                worker.hear_end(node)

    def _died(self, worker: WorkerProcess, code: int) -> None:
        """A worker has ended that was not told to."""
        post = self._posts[worker.number - 1]
        if self._orders.reload and worker.failure is not None and worker is post.successor:
            why = str(worker.failure)
            log_.error("the change is refused; the code before it goes on", reason=why)
            post.successor = None
            self._to_roll.clear()
            return
        if worker.failure is not None and not self._is_serving:
            self._failure = self._failure or worker.failure
            self._begin_drain()
            return
        reason = {} if worker.failure is None else {"reason": str(worker.failure)}
        log_.error("a worker ended", **_fields(worker, code), **reason)
        if self._to_drain is not None:
            self._code = 1
        elif worker is post.successor:
            post.successor = None
            self._to_roll.clear()
            log_.error("no more workers are replaced; the present ones go on", worker=post.number)
        elif post.successor is not None:
            post.worker, post.successor = post.successor, None
        else:
            post.worker = None
            self._count_early(worker, post)

    def _count_early(self, worker: WorkerProcess, post: _Post) -> None:
        if worker.age < _EARLY or not worker.is_ready:
            self._early += 1
        else:
            self._early = 0
            post.backoff.succeeded()
        post.due = monotonic() + post.backoff.failed()
        is_last = self._early >= _GIVE_UP and not self._orders.reload  # the next edit may help
        if is_last and not any(each.is_ready for each in self._running):
            log_.critical(
                "the workers end soon after their start time after time; the server stops",
                ended=self._early,
            )
            self._begin_drain()
            self._code = 1

    def _kill_late_ones(self) -> None:
        for worker in self._running:
            if monotonic() > worker.deadline:
                what = "end" if worker.told else "get ready"
                log_.error(
                    f"a worker did not {what} in time and is killed",
                    worker=worker.number,
                    pid=worker.pid,
                )
                worker.kill()
                worker.deadline = math.inf

    def _kill_all(self) -> None:
        """After a defect of ours alone is one left."""
        for worker in self._running:
            worker.kill()

    # -- drain and roll --------------------------------------------------------------------

    def _begin_drain(self) -> None:
        if self._to_drain is not None:
            return
        # Those that are not ready have nothing to drain.
        untold = sorted((each for each in self._running if not each.told), key=lambda w: w.number)
        for worker in untold:
            if not worker.is_ready:
                worker.drain()
        self._to_drain = deque(worker for worker in untold if worker.is_ready)

    def _drain_next(self, workers: deque[WorkerProcess]) -> None:
        """Tell the next worker to drain, once the last one has ended. A worker with long turns does
        not hold up the rest: all are told within one drain time, and the whole takes at most two.
        """
        last = self._last_told
        step = self._drain_seconds / len(self._posts)
        is_early = (
            last is not None and last in self._running and monotonic() < (last.told or 0.0) + step
        )
        if not workers or is_early:
            return
        worker = workers.popleft()
        if not workers:
            # The last one alone answers from now on: that the server goes away.
            self._listener.socket.close()
        worker.drain()
        self._last_told = worker

    def _reload(self) -> None:
        """Replace the workers once files have changed, also those that have read a part of it."""
        now = monotonic()
        if self._orders.reload and now >= self._next_look:
            self._next_look = now + LOOK
            self._is_outdated |= self._sources.have_changed()
        is_under_way = self._to_roll or self._leaving is not None
        if self._is_outdated and not is_under_way and self._is_serving:
            self._is_outdated = False
            for post in self._posts:
                post.due = 0.0
            self._begin_roll()

    def _begin_roll(self) -> None:
        try:
            settings = load_settings(self._orders.arguments, self._orders.config).settings
        except StartupError as error:
            log_.error("the settings are refused; the workers go on with theirs", reason=str(error))
            return
        hide(*secrets_of(settings))
        changed = [
            name for name in _IN_COMMON if getattr(settings, name) != getattr(self._settings, name)
        ]
        if changed:
            log_.error("only a restart can change these settings; the workers go on", names=changed)
            return
        log_.info("replacing the workers in turn")
        self._drain_seconds = settings.drain_seconds
        self._to_roll = deque(self._posts)

    def _roll(self) -> None:
        """Replace the next worker, once the last one that was replaced has ended."""
        if not self._to_roll or self._leaving is not None:
            return
        post = self._to_roll[0]
        if post.successor is not None and self._may_follow(post.successor) and post.worker:
            self._leaving, post.worker, post.successor = post.worker, post.successor, None
            if self._is_for_one:  # new connections wait for it
                self._counts.set(post.worker.place, 0)
            self._leaving.drain()
            self._to_roll.popleft()
            log_.info("a worker is replaced", worker=post.number, pid=post.worker.pid)
        elif post.successor is None and post.worker is not None and post.worker.is_ready:
            post.successor = self._start(post)

    @property
    def _is_for_one(self) -> bool:
        return not self._settings.store

    def _may_follow(self, successor: WorkerProcess) -> bool:
        return successor.is_loaded if self._is_for_one else successor.is_ready


def _fields(worker: WorkerProcess, code: int) -> dict[str, Any]:
    how = {"exit_code": code} if code >= 0 else {"signal": _signal_name(-code)}
    return {"worker": worker.number, "pid": worker.pid, **how}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
