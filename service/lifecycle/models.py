"""Which models are resident, who uses which, and when one that was replaced may go.

Pure: no clock, no task, no lock; all of it is called on the event loop. A request asks for a
model by name and holds the very model it was given: whatever is put in its place meanwhile, the request ends
with what it began with. A model that was replaced is let go exactly once, when its last request has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from service.statuses import unknown_model


class Named(Protocol):
    """A resident model, as far as the registry is concerned. Compared by identity."""

    @property
    def name(self) -> str: ...


M = TypeVar("M", bound=Named)


class Use(Generic[M]):
    """A model for as long as a request takes. A generator's context costs three times as much."""

    __slots__ = ("_model", "_models")

    def __init__(self, models: Models[M], model: M) -> None:
        self._models = models
        self._model = model

    def __enter__(self) -> M:
        self._models.hold(self._model)
        return self._model

    def __exit__(self, *_error: object) -> None:
        self._models.release(self._model)


class Models(Generic[M]):
    """At least one, the default: it is replaced, never removed."""

    def __init__(self, default: M, let_go: Callable[[M], None]) -> None:
        """`let_go` is called once for each model that has left `by_name` and is used by nobody."""
        self._default_name = default.name
        self._let_go = let_go
        self._by_name: Mapping[str, M] = MappingProxyType({default.name: default})
        self._users: dict[int, int] = {}  # by identity of the model; none: not there

    @property
    def default(self) -> M:
        return self._by_name[self._default_name]

    @property
    def by_name(self) -> Mapping[str, M]:
        """As it is now: a snapshot that never changes."""
        return self._by_name

    def find(self, name: str) -> M:
        """Empty: the default. Raises Refusal, NOT_FOUND, that lists the names."""
        found = self._by_name.get(name or self._default_name)
        if found is None:
            raise unknown_model(name, list(self._by_name))
        return found

    def using(self, name: str) -> Use[M]:
        """The model that answers a request for `name`, held until the request has ended. Raises Refusal."""
        return Use(self, self.find(name))

    def hold(self, model: M) -> None:
        """For one request; then `release`."""
        self._users[id(model)] = self._users.get(id(model), 0) + 1

    def release(self, model: M) -> None:
        left = self._users[id(model)] - 1
        if left:
            self._users[id(model)] = left
            return
        del self._users[id(model)]
        if self._by_name.get(model.name) is not model:
            self._let_go(model)

    def users(self, model: M) -> int:
        """Requests that hold it."""
        return self._users.get(id(model), 0)

    def put(self, model: M) -> None:
        """From here on requests find this one under its name; who holds another keeps it."""
        replaced = self._by_name.get(model.name)
        if replaced is not model:
            self._by_name = MappingProxyType({**self._by_name, model.name: model})
            self._retire(replaced)

    def remove(self, name: str) -> None:
        """Requests no longer find it. Raises Refusal for an unknown name, ValueError for the default's."""
        if name == self._default_name:
            raise ValueError(f"{name!r} is the default model")
        removed = self.find(name)
        self._by_name = MappingProxyType({n: m for n, m in self._by_name.items() if n != name})
        self._retire(removed)

    def _retire(self, model: M | None) -> None:
        if model is not None and not self.users(model):
            self._let_go(model)
