"""When a replica's slack runs short, and when it is back.

Between two decisions of the scaler a replica has a reflex: while its backlog threatens the SLO it takes
batches without waiting for company and asks for its highest allowed clock. Bursts shorter than a start-up can
be met in no other way. This file owns the rule and its hysteresis; it leaves to others how the backlog is
counted, what raised means for a batch, and who sets the clock. It stands here because the server and the
scaler's simulator call the same code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReflexRule:
    """When slack is short and when it is back, as shares of the SLO's latency.

    Raises ValueError unless 0 < back_share <= short_share and 0 <= hold_s <= longest_hold_s.
    """

    # A text that arrives now waits for the backlog, then for its own batch, which may take as long again. The
    # server has a text computed by 0.8 of the SLO, so a batch may take half of that, on a slow card at a slow
    # clock, and be no backlog; beyond it texts would be late at the set clock. SLO 50 ms: raised above 20 ms.
    short_share: float = 0.4
    # Well below the first, so that one batch more or less does not move the clock. SLO 50 ms: 5 ms.
    back_share: float = 0.1
    # A clock takes tens of ms to move. What lasted a second may well last another: while slack was short
    # again and again the hold grows with the time that this has gone on, up to the longest. A burst is over
    # once slack was not short for a hold after the clock came back.
    hold_s: float = 0.2
    longest_hold_s: float = 1.0

    def __post_init__(self) -> None:
        shares = 0.0 < self.back_share <= self.short_share
        if not shares or not 0.0 <= self.hold_s <= self.longest_hold_s:
            wanted = "0 < back_share <= short_share and 0 <= hold_s <= longest_hold_s"
            raise ValueError(f"a reflex needs {wanted}, not {self}")

    @classmethod
    def raised_above(cls, backlog_s: float, slo_latency_s: float) -> ReflexRule:
        """The usual rule, raised above another backlog; 0: above the usual one."""
        usual = cls()
        short_share = backlog_s / slo_latency_s if slo_latency_s > 0 else 0.0
        return cls(short_share, min(usual.back_share, short_share)) if short_share > 0 else usual


class Reflex:
    """Raised at once when slack is short; back when slack is, and was not short for the rule's hold.

    The hold counts from the last time that slack was short, not from the first. So a larger backlog never
    leads to less: of two replicas heard at the same moments, one that always has at least the other's
    backlog is raised whenever the other is.
    """

    __slots__ = ("_back_at_s", "_burst_from_s", "back_from_s", "raised", "rule")

    def __init__(self, rule: ReflexRule = ReflexRule()) -> None:
        self.rule = rule  # may be moved between two updates
        self._back_at_s = self._burst_from_s = -math.inf
        # The earliest moment it may return if slack is not short again; minus infinity if it never was. An
        # idle replica has no other event that would have it call `update` then.
        self.back_from_s = -math.inf
        self.raised = False

    def update(self, now_s: float, backlog_s: float, slo_latency_s: float) -> bool:
        """Hear the backlog of this moment; returns whether the reflex is raised.

        `backlog_s` is what the waiting texts would need in full batches at the clock that was set (not the
        raised one, or raising it would be a reason to lower it), and what is left of the batch in the engine.
        `now_s` never goes back.
        """
        if backlog_s > self.rule.short_share * slo_latency_s:
            if not self.raised and now_s > self._back_at_s + self.rule.hold_s:
                self._burst_from_s = now_s
            lasted_s = now_s - self._burst_from_s
            self.raised = True
            self.back_from_s = now_s + min(self.rule.longest_hold_s, max(self.rule.hold_s, lasted_s))
        elif self.raised and now_s >= self.back_from_s and backlog_s < self.rule.back_share * slo_latency_s:
            self.raised = False
            self._back_at_s = now_s
        return self.raised
