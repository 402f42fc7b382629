"""Says which replicas joined with the name of no policy's fleet: most often a `--fleet` that is misspelt.

Run by `controller` while it leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

_EVERY_S = 15.0


class Strays(Protocol):
    """A `Hub`."""

    async def strays(self) -> Mapping[str, int]: ...


async def tell_of_strays(hub: Strays, say: Callable[[str], None]) -> None:
    """Once for each number of them."""
    told: Mapping[str, int] = {}
    while True:
        await asyncio.sleep(_EVERY_S)
        found = dict(await hub.strays())
        for fleet, replicas in found.items():
            if told.get(fleet) != replicas:
                say(f"fleet {fleet}: {replicas} replicas, and no PowerPolicy of that namespace and name")
        told = found
