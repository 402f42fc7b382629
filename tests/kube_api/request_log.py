"""The request log: who asked for what, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True)
class Served:
    """One line of the request log, in the order in which writes took effect."""

    at_s: float
    user: str
    verb: str
    resource: str
    """`deployments.apps/scale`"""
    namespace: str | None
    name: str | None
    params: dict[str, str]
    body: Any
    code: int
    """0: the answer was lost on purpose."""
    answer: Any = field(repr=False, default=None)

    @property
    def wrote(self) -> bool:
        return self.verb in WRITES and 200 <= self.code < 300 and self.params.get("dryRun") != "All"

    @property
    def version_given(self) -> str | None:
        """The resourceVersion that the write demanded."""
        body = self.body if isinstance(self.body, dict) else {}
        found = body.get("metadata", {}).get("resourceVersion")
        return found or (body.get("preconditions") or {}).get("resourceVersion")
