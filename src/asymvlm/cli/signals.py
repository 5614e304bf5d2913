"""End a command on SIGTERM and SIGINT: unwound, in bounded time, with code 128 + signal."""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds.
GRACE = 30.0
_LAUNCHER = "ASYMVLM_LAUNCHER_PID"


class Stopped(BaseException):
    """Raised in the main thread where a signal asks the process to end.

    No Exception, so that nothing between the signal and the command's end takes it for an error.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.advice = "run the same command again; what it has finished is not done again"

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.signum


@contextmanager
def ended_at_once() -> Iterator[None]:
    """End the process with one line on SIGTERM and SIGINT while open, where nothing else does.

    For the seconds that imports take: nothing is begun that must be cleaned up, and an exception
    could be lost, since Python drops those raised in the callbacks of its module locks. Outside the
    main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {signum: signal.signal(signum, _say_and_end) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in found.items():
            # A command that was stopped leaves its own, for the time that Python takes to exit.
            if signal.getsignal(signum) is _say_and_end:
                signal.signal(signum, handler)


def stop_behind(error: BaseException | None) -> Stopped | None:
    """Find the `Stopped` that an error is, or was raised on top of."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def stoppable(owns_process: bool, grace: float = GRACE) -> Iterator[None]:
    """Raise `Stopped` on SIGTERM and SIGINT while open; afterwards the old handlers are back.

    Unfinished files are removed and runs are closed as the exception passes. Where that takes
    longer than `grace` seconds (Python runs no handler while a collective waits for a rank that is
    gone), or SIGINT comes again, the process ends at once with the same exit code. `owns_process`
    extends this bound to what Python does when it exits. A process that another one of the same
    command has started passes the signal on to that one. Outside the main thread, where Python has
    no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        if not received:
            received.append(signum)
            raise Stopped(signum)
        if signum == signal.SIGINT:
            _end_now(signum)
        # A further SIGTERM is one that another process has passed on.

    _forks_start_without_handlers()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_watch, args=(reader, grace), daemon=True).start()
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    found = {signum: signal.signal(signum, stop) for signum in SIGNALS}
    try:
        yield
    finally:
        if received and owns_process:
            # Python's own handlers are gone while it exits, so a further signal would end it with
            # another code; the bound on time stands.
            for signum in SIGNALS:
                signal.signal(signum, signal.SIG_IGN)
        else:
            for signum, handler in found.items():
                signal.signal(signum, handler)
            signal.set_wakeup_fd(woken)
            os.close(writer)


@contextmanager
def known_to_children() -> Iterator[None]:
    """Let processes of this command that start from here recognise this one, while open."""
    if launcher() is not None:
        yield
        return
    os.environ[_LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(_LAUNCHER, None)


def launcher() -> int | None:
    """Return the process id of the same command's process that started this one, if any."""
    parent = os.getppid()
    return parent if os.environ.get(_LAUNCHER) == str(parent) else None


def _watch(reader: int, grace: float) -> None:
    """Read signals as they come, in a thread: also while the main thread runs no Python code."""
    with os.fdopen(reader, "rb", buffering=0) as signals:
        came = b" "
        while came and came[0] not in SIGNALS:
            came = signals.read(1)
        if not came:
            return
        leader = launcher()
        if leader is not None:
            os.kill(leader, signal.SIGTERM)
        until = time.monotonic() + grace
        while select.select([signals], [], [], max(0.0, until - time.monotonic()))[0]:
            if not signals.read(1):
                return
        _end_now(came[0])


def _end_now(signum: int) -> NoReturn:
    print(f"error: {signal.Signals(signum).name}: ended without cleaning up", file=sys.stderr)
    sys.stderr.flush()
    os._exit(128 + signum)


def _say_and_end(signum: int, frame: FrameType | None) -> NoReturn:
    stop = Stopped(signum)
    # Not through sys.stderr: the signal may have come while it is written to.
    os.write(2, f"stopped by {stop}: {stop.advice}\n".encode())
    os._exit(stop.exit_code)


@functools.cache
def _forks_start_without_handlers() -> None:
    os.register_at_fork(after_in_child=_forget_handlers)


def _forget_handlers() -> None:
    """Restore the default handlers in a forked worker."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
