"""Replicas as processes: what becomes of those that never come up, don't last, or hang."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from scaler.local.processes import LocalFleet, LocalRules
from scaler.signals import Missing

WAIT_S = 30.0
NOTHING = Missing(0.0, "nobody has joined")


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


READY = "print('ready: here', flush=True); "
HANGS = python("import time; time.sleep(60)")
READY_THEN_HANGS = python(f"import time; {READY}time.sleep(60)")
READY_THEN_BREAKS = python(f"import sys; {READY}sys.exit('no memory left')")


def fleet(commands: list[list[str]], said: list[str], stale_after_s: float = 60.0) -> LocalFleet:
    """The last command is every later replica's too."""
    rules = LocalRules(drain_timeout_s=1.0, start_timeout_s=0.3, max_starting=1, stale_after_s=stale_after_s)

    def command(name: str) -> list[str]:
        return commands.pop(0) if len(commands) > 1 else commands[0]

    return LocalFleet(command, rules, clock=time.monotonic, say=said.append)


async def beat_until(local: LocalFleet, happened: Callable[[], bool], seen: Missing = NOTHING) -> None:
    async with asyncio.timeout(WAIT_S):
        while not happened():
            await local.scale_to(1, seen)
            await asyncio.sleep(0.02)


async def test_a_replica_that_can_not_start_or_never_gets_ready_is_given_up_and_tried_again() -> None:
    said: list[str] = []
    local = fleet([["/absent"], HANGS], said)
    await beat_until(local, lambda: len(said) >= 3)
    await local.close()
    assert said[0] == "replica-1 did not start, No such file or directory; next try in 0.5 s"
    assert said[1] == "replica-2 is not ready after 0.3 s: killed"
    assert said[2] == "replica-2 did not start, exit code -9: nothing on stderr; next try in 1 s"


async def test_a_replica_that_is_gone_as_soon_as_it_was_ready_is_tried_later_and_later() -> None:
    said: list[str] = []
    local = fleet([READY_THEN_BREAKS], said)
    await beat_until(local, lambda: len(said) >= 2)
    await local.close()
    assert said == [
        "replica-1 did not last, exit code 1: no memory left; next try in 0.5 s",
        "replica-2 did not last, exit code 1: no memory left; next try in 1 s",
    ]


async def test_a_ready_replica_that_says_nothing_is_killed_and_replaced() -> None:
    said: list[str] = []
    local = fleet([READY_THEN_HANGS], said, stale_after_s=0.2)
    hung = Missing(0.0, "silent", ready=1, in_flight={"replica-1": 3}, silent=frozenset({"replica-1"}))
    await beat_until(local, lambda: len(said) >= 2, hung)
    assert said == [
        "replica-1 has said nothing for 0.2 s: killed",
        "replica-1 did not last, exit code -9: nothing on stderr; next try in 0.5 s",
    ]
    heard = Missing(0.0, "too few", ready=1, in_flight={"replica-2": 0})
    await beat_until(local, lambda: local.running(heard) == 1, heard)
    await asyncio.sleep(0.5)
    await local.scale_to(1, heard)
    await local.close()
    assert len(said) == 2, "who is heard stays"
