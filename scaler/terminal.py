"""Decisions as lines for whoever watches the command: one when something changes, silence otherwise."""

from __future__ import annotations

from collections.abc import Callable

from scaler.decision import Action, Decision, ReasonCode
from scaler.record import FleetRow

_CHANGES = {Action.UP, Action.DOWN, Action.RETUNE}
_BROKEN_PROMISES = {ReasonCode.OVER_BUDGET, ReasonCode.SLO_UNREACHABLE}


class Terminal:
    """A watcher of the loop."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = ""
        self._seeing = False
        self._broken: set[ReasonCode] = set()

    def observed(self, row: FleetRow) -> None:
        """Rows are for the record."""

    def decided(self, decision: Decision, at_s: float) -> None:  # noqa: ARG002 - lines carry no time
        """A fleet that only wishes stays at the same change: once. So are blindness and broken promises."""
        blind = decision.action is Action.HOLD
        change = f"{decision.action} {decision.desired_replicas} {decision.operating_point}"
        broken = {reason.code for reason in decision.reasons} & _BROKEN_PROMISES
        news = (decision.action in _CHANGES and change != self._said) or (blind and self._seeing)
        if news or not broken <= self._broken:
            self._say(decision.line())
            self._said = change
        self._broken = broken
        self._seeing = not blind and decision.action is not Action.UP
