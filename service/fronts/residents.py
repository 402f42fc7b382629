"""Which models front ends may name, and when one that was replaced may go.

Each resident model gets a number; a submission carries it. A model that was replaced, or unloaded, is held
until every front end goes by a later state and the last submission under its number has ended: so a request
ends with the model whose tokenizer read it. Pure; used by `engine_door`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field

from service.lifecycle.models import Models
from service.lifecycle.resident import ResidentModel


@dataclass(slots=True, eq=False)
class Held:
    """One numbered model."""

    number: int
    model: ResidentModel
    lease: ExitStack = field(default_factory=ExitStack)
    users: int = 0  # submissions
    gone_since: int | None = None  # the state's version that first did without it


class Residents:
    """One per engine process."""

    def __init__(self, models: Models[ResidentModel]) -> None:
        self._models = models
        self._held: dict[int, Held] = {}
        self._numbers = 0

    def now(self, version: int) -> list[Held]:
        """Those that are told of with `version`, the default first."""
        current = list(self._models.by_name.values())
        default = self._models.default
        current.sort(key=lambda model: model is not default)
        by_model = {id(held.model): held for held in self._held.values() if held.gone_since is None}
        told = []
        for model in current:
            held = by_model.pop(id(model), None)
            if held is None:
                self._numbers += 1
                held = self._held[self._numbers] = Held(self._numbers, model)
                held.lease.enter_context(self._models.using(model.name))
            told.append(held)
        for held in by_model.values():
            held.gone_since = version
        return told

    def find(self, number: int) -> Held | None:
        return self._held.get(number)

    def release(self, seen: Iterable[int]) -> None:
        """Lets go of what nobody can ask for; `seen`: the versions that the front ends go by."""
        oldest = min(seen, default=None)
        for held in list(self._held.values()):
            unseen = held.gone_since is None or (oldest is not None and oldest < held.gone_since)
            if not unseen and not held.users:
                del self._held[held.number]
                held.lease.close()

    def close(self) -> None:
        for held in self._held.values():
            held.lease.close()
        self._held.clear()
