"""Tells of replicas that joined with the name of a fleet that nobody runs: most often a `--fleet` misspelt.

Run beside the loops by `scale` and by the controller, for as long as each leads; what is said is theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

_EVERY_S = 15.0


class Strays(Protocol):
    """A `Hub`."""

    async def strays(self) -> Mapping[str, int]: ...


async def tell_of_strays(hub: Strays, tell: Callable[[str, int], None], every_s: float = _EVERY_S) -> None:
    """`tell` is given a fleet's name and its replicas, once for each number of them."""
    told: Mapping[str, int] = {}
    while True:
        await asyncio.sleep(every_s)
        found = dict(await hub.strays())
        for fleet, replicas in found.items():
            if told.get(fleet) != replicas:
                tell(fleet, replicas)
        told = found
