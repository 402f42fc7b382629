"""A child process of the supervisor: forked, named, tied to its parent, and what it says in the end.

Knows nothing of what a child does. Called by `supervisor`, which reaps its children.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from minwatt.v1.errors import UsageError
from service.fronts.signals import Signals

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Child:
    pid: int
    control: socket.socket


def fork(act: Callable[[socket.socket], None], signals: Signals) -> Child:
    """`act` runs in the child, with its end of a socket pair, and never returns from there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    with signals.held():
        pid = os.fork()
        if not pid:
            signals.close()
    if not pid:
        ours.close()
        _run_and_exit(act, theirs)
    theirs.close()
    return Child(pid, ours)


def _run_and_exit(act: Callable[[socket.socket], None], control: socket.socket) -> NoReturn:
    """In the child: nothing of the parent's stack is unwound there."""
    code = 1
    try:
        os.setpgid(0, 0)  # a terminal's Ctrl-C is the supervisor's, which passes it on once
        act(control)
        code = 0
    except UsageError as error:
        with suppress(OSError):
            control.send(str(error).encode())
        code = 2
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        log.critical("ended by an exception", exc_info=error)
        traceback.clear_frames(error.__traceback__)
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def tie_to(parent: int) -> None:
    """SIGTERM when the supervisor ends, however it does; an end at once where it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def call_this_process(name: bytes) -> None:
    """In `ps` and `top`."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name, 0, 0, 0)


def exit_code(pid: int) -> int | None:
    """Negative: ended by that signal; None: it lives."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def all_said(control: socket.socket) -> list[bytes]:
    said: list[bytes] = []
    for _ in range(2):  # a process that has ended without reading all comes first as a reset
        with suppress(OSError):
            while message := control.recv(64 * 1024, socket.MSG_DONTWAIT):
                said.append(message)
    return said


def how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
