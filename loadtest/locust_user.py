"""What a Locust user does, without Locust: when it asks next, what it asks, and what is told of the answer.

A user asks on a schedule of its own, whatever the server does, as far as one call at a time can: gaps are
exponential, so that any number of users on any number of machines are a Poisson process together, and the
response time counts from the planned time. Clock and randomness are arguments. Called by `locustfile`.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from loadtest.capture import captured_plan, read_captures
from loadtest.identity import IdentityOptions
from loadtest.load import LoadOptions, TaskMix, payloads
from loadtest.plan import Payload, Task
from loadtest.trace import Fit
from minwatt.channels import Identity
from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import parse_duration_s

_SERVICE = "/minwatt.v1.TextInference"
METHODS = {Task.CLASSIFY: f"{_SERVICE}/Classify", Task.EXTRACT: f"{_SERVICE}/ExtractEntities"}
DEADLINE_S = 1.0
_FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests to choose from, each as likely as the others."""

    requests: Sequence[tuple[Payload, float]]  # with its deadline in seconds


@dataclass(frozen=True, slots=True)
class UserOptions:
    """From the environment, which Locust's master and workers have alike."""

    rate_rps: float = 1.0  # of one user
    deadline_s: float | None = None  # None: a capture's own, else DEADLINE_S
    task: TaskMix = TaskMix.MIXED
    capture: Path | None = None
    who: IdentityOptions = field(default_factory=IdentityOptions)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> UserOptions:
        """MINWATT_USER_RPS, MINWATT_DEADLINE, MINWATT_TASK, MINWATT_CAPTURE, and for each option of who sends
        one of its name: MINWATT_TLS_CA for --tls-ca. Raises UsageError."""
        rate = environ.get("MINWATT_USER_RPS", "1")
        task = environ.get("MINWATT_TASK", TaskMix.MIXED.value)
        deadline = environ.get("MINWATT_DEADLINE")
        capture = environ.get("MINWATT_CAPTURE")
        try:
            rate_rps = float(rate)
        except ValueError:
            rate_rps = math.nan
        if not (math.isfinite(rate_rps) and rate_rps > 0):
            raise UsageError(f"MINWATT_USER_RPS = {rate!r}: allowed: a number above 0")
        if task not in list(TaskMix):
            raise UsageError(f"MINWATT_TASK = {task!r}: allowed: {', '.join(TaskMix)}")
        try:
            deadline_s = None if deadline is None else parse_duration_s(deadline)
        except ValueError as error:
            raise UsageError(f"MINWATT_DEADLINE = {deadline!r}: {error}") from error
        return cls(rate_rps, deadline_s, TaskMix(task), Path(capture) if capture else None, _who(environ))

    def identity(self, host: str) -> Identity:
        """Reads its files. Raises UsageError."""
        try:
            return self.who.identity(host)
        except UsageError as error:
            raise UsageError(_FLAG.sub(lambda flag: _variable(flag[1]), str(error))) from error


def _who(environ: Mapping[str, str]) -> IdentityOptions:
    given = {
        option: environ[name]
        for option in IdentityOptions.model_fields
        if (name := _variable(option)) in environ
    }
    try:
        return IdentityOptions.model_validate(given)
    except ValidationError as error:
        (first, *_) = error.errors()
        name = _variable(str(first["loc"][0]))
        raise UsageError(f"{name} = {environ[name]!r}: {first['msg']}") from error


def _variable(option: str) -> str:
    return f"MINWATT_{option.replace('-', '_').upper()}"


def asked(options: UserOptions) -> Asked:
    """A capture's requests in its mix, or the packaged texts. Raises UsageError."""
    deadline_s = options.deadline_s
    if options.capture is not None:
        plan = captured_plan(read_captures(options.capture), Fit(), np.random.default_rng(0))
        own_s = [DEADLINE_S] * len(plan) if plan.deadlines_s is None else plan.deadlines_s.tolist()
        chosen = zip(plan.choices.tolist(), own_s, strict=True)
        return Asked([(plan.payloads[choice], deadline_s or own) for choice, own in chosen])
    groups = payloads(LoadOptions(task=options.task))
    most = max(map(len, groups))  # groups are as likely as one another, whatever their sizes
    return Asked([(one[i % len(one)], deadline_s or DEADLINE_S) for one in groups for i in range(most)])


class Pace:
    """When a user asks."""

    def __init__(self, rate_rps: float, now_s: float, rng: random.Random) -> None:
        self._rate_rps, self._rng = rate_rps, rng
        self.planned_s = now_s + self._gap_s()  # of the next request

    def wait_s(self, now_s: float) -> float:
        return max(0.0, self.planned_s - now_s)

    def take(self) -> float:
        """The planned time of a request that is sent now; the one after it does not depend on its answer."""
        planned_s = self.planned_s
        self.planned_s += self._gap_s()
        return planned_s

    def _gap_s(self) -> float:
        return self._rng.expovariate(self._rate_rps)


def ask(
    item: Payload, deadline_s: float, planned_s: float, call: Callable[..., bytes], clock: Callable[[], float]
) -> dict[str, Any]:
    """Calls, and returns what Locust's event `request` is fired with; an error is one of its fields."""
    error: Exception | None = None
    reply = b""
    try:
        reply = call(item.request, timeout=deadline_s)
    except Exception as failed:  # Locust counts it
        error = failed
    return {
        "request_type": "grpc",
        "name": METHODS[item.task].rpartition("/")[2],
        "response_time": 1e3 * (clock() - planned_s),
        "response_length": len(reply),
        "exception": error,
        "context": {},
    }
