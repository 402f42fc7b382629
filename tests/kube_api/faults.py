"""Faults on demand: what the API server, or the way to it, does wrong, and how often.

    api.faults.answer(409, verbs="update", resource="leases")            # once
    api.faults.answer(429, retry_after_s=2, times=3)                     # the next three requests
    api.faults.delay(1.5, verbs="list", resource="pods", times=None)     # each, until clear()
    api.faults.drop(resource="powerpolicies", subresource="status")      # connection reset, no answer
    held = api.faults.hold(verbs="get", resource="deployments", subresource="scale")
    held.arrived.wait(5); ...; held.go.set()                             # answers only then

`by` names a user by the end of its name, so that one controller of two can be hit. Watches that are open are
cut by `KubeApi.cut_watches`, a whole outage is `KubeApi.stop` and `start`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.kube_api.answers import STALE, Refusal, conflict, expired, internal_error

Happening = Literal["answer", "delay", "drop", "hold"]


@dataclass(frozen=True)
class Asked:
    """What of a request a fault is chosen by."""

    verb: str
    plural: str
    group: str
    subresource: str | None
    namespace: str | None
    name: str | None
    user: str


@dataclass
class Held:
    arrived: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)


@dataclass
class Fault:
    happening: Happening
    verbs: frozenset[str]
    resource: str | None
    subresource: str | None
    name: str | None
    by: str | None
    times: int | None
    code: int = 0
    retry_after_s: int | None = None
    delay_s: float = 0.0
    after: bool = False
    """Dropped only once the request was carried out: the answer alone is lost."""
    held: Held = field(default_factory=Held)
    hits: int = 0

    def fits(self, asked: Asked) -> bool:
        resource = self.resource in (None, asked.plural, f"{asked.plural}.{asked.group}")
        return (
            (self.times is None or self.hits < self.times)
            and (not self.verbs or asked.verb in self.verbs)
            and resource
            and (
                self.subresource == asked.subresource or (self.resource is None and self.subresource is None)
            )
            and self.name in (None, asked.name)
            and (self.by is None or asked.user.endswith(self.by))
        )


class Faults:
    """Looked through in order; of each kind the first that fits a request happens to it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def answer(self, code: int, retry_after_s: int | None = None, **which: object) -> Fault:
        return self._add("answer", which, code=code, retry_after_s=retry_after_s)

    def delay(self, seconds: float, **which: object) -> Fault:
        return self._add("delay", which, delay_s=seconds)

    def drop(self, after: bool = False, **which: object) -> Fault:
        return self._add("drop", which, after=after)

    def hold(self, **which: object) -> Held:
        return self._add("hold", which).held

    def clear(self) -> None:
        with self._lock:
            for fault in self._faults:
                fault.held.go.set()
            self._faults.clear()

    def take(self, asked: Asked) -> list[Fault]:
        with self._lock:
            taken: dict[str, Fault] = {}
            for fault in self._faults:
                if fault.happening not in taken and fault.fits(asked):
                    fault.hits += 1
                    taken[fault.happening] = fault
            return list(taken.values())

    def _add(self, happening: Happening, which: dict[str, object], **more: object) -> Fault:
        verbs = which.pop("verbs", ())
        fault = Fault(
            happening=happening,
            verbs=frozenset([verbs] if isinstance(verbs, str) else verbs),  # type: ignore[call-overload]
            **{key: which.pop(key, None) for key in ("resource", "subresource", "name", "by")},  # type: ignore[arg-type]
            times=which.pop("times", 1),  # type: ignore[arg-type]
            **more,  # type: ignore[arg-type]
        )
        if which:
            raise TypeError(f"a fault is not chosen by {', '.join(which)}")
        with self._lock:
            self._faults.append(fault)
        return fault


def refusal(fault: Fault, asked: Asked) -> Refusal:
    """The answer that a fault's code stands for."""
    name = asked.name or ""
    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    by_code = {
        409: conflict(asked.plural, asked.group, name, STALE),
        410: expired("The resourceVersion for the provided watch is too old."),
        429: Refusal(429, "", "Too many requests, please try again later."),
        500: internal_error("etcdserver: request timed out"),
        503: Refusal(503, "ServiceUnavailable", "apiserver is shutting down"),
        504: Refusal(504, "Timeout", "Timeout: request did not complete within requested timeout"),
    }
    said = by_code.get(fault.code, Refusal(fault.code, "", f"the server answered {fault.code}"))
    return Refusal(said.code, said.reason, said.message, said.details, headers)
