"""An event loop whose time does not pass while something is to be done, and jumps ahead when nothing is.

Everything that waits for one another must run on it: the stand-in, the controller and the replicas of a
scenario, over real sockets, on their way between which time stands, as it does while a thread works for the
loop. Who asks another process, or a library with threads of its own, does so while time is `standing`. Five
minutes then take as long as what happens in them, and no outcome depends on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tests.kube_api.wires import Wires

_GRACE_S = 0.001  # of the machine's time, for what comes from elsewhere and is not counted
_STUCK_S = 20.0


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.jump: Callable[[float], None] = lambda _seconds: None
        self.holds = 0
        self.wires = Wires()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.holds or self._on_the_way():
            return self._wait_without_timers()
        ready = super().select(_GRACE_S)
        if not ready:
            self.jump(timeout)
        return ready

    def _on_the_way(self) -> bool:
        return self.wires.on_the_way({key.fd: key.events for key in self.get_map().values()})

    def _wait_without_timers(self) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(_STUCK_S)
        if not ready:
            raise RuntimeError("the loop waits for nothing that could come")
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._waits = _Selector()
        super().__init__(self._waits)
        self._jumped_s = 0.0
        self._waits.jump = self._jump

    def time(self) -> float:
        return self._jumped_s

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Time does not pass within: no timer ends before a process outside has answered."""
        self._waits.holds += 1
        try:
            yield
        finally:
            self._waits.holds -= 1

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Time does not pass before the thread is done with it."""
        self._waits.holds += 1
        done = super().run_in_executor(executor, func, *args)
        done.add_done_callback(self._thread_done)
        return done

    def _thread_done(self, _: Any) -> None:
        self._waits.holds -= 1

    # As asyncio makes its connections: each is counted.

    def _make_socket_transport(self, sock: socket.socket, *args: Any, **more: Any) -> Any:
        return super()._make_socket_transport(self._waits.wires.counted(sock), *args, **more)  # type: ignore[misc]

    def _make_ssl_transport(self, rawsock: socket.socket, *args: Any, **more: Any) -> Any:
        return super()._make_ssl_transport(self._waits.wires.counted(rawsock), *args, **more)  # type: ignore[misc]

    def _start_serving(self, protocol_factory: Any, sock: socket.socket, *args: Any, **more: Any) -> None:
        self._waits.wires.listens(sock)
        super()._start_serving(protocol_factory, sock, *args, **more)  # type: ignore[misc]

    def _stop_serving(self, sock: socket.socket) -> None:
        self._waits.wires.listens_no_more(sock)
        super()._stop_serving(sock)  # type: ignore[misc]

    def _jump(self, seconds: float) -> None:
        self._jumped_s += max(0.0, seconds)


def run_jumping(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main())
