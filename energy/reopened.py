"""An open card that is opened anew after it was lost.

Owns the handle: opened when it is first used, let go of when a call says that the card or the driver is gone.
Knows nothing of what the calls do. Called by `clocks`, and by the node agent for its cards; the meter, which
waits between two tries, keeps a handle of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from energy.gpu import GpuError, GpuGone


class Card(Protocol):
    def close(self) -> None:
        """May raise GpuError."""


_Card = TypeVar("_Card", bound=Card)


class Reopened(Generic[_Card]):
    """Of one caller at a time."""

    def __init__(self, open_card: Callable[[str], _Card], uuid: str, card: _Card | None = None) -> None:
        """By UUID: a card that fell off the bus may have left its index to another."""
        self._open = open_card
        self._uuid = uuid
        self._card = card

    @contextlib.contextmanager
    def use(self) -> Iterator[_Card]:
        """The open card. Raises GpuError; after a GpuGone inside of it the next use opens it anew."""
        try:
            if self._card is None:
                self._card = self._open(self._uuid)
            yield self._card
        except GpuGone:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of it. Never raises."""
        card, self._card = self._card, None
        if card is not None:
            with contextlib.suppress(GpuError):
                card.close()
