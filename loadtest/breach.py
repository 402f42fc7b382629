"""When a run is given up: too many of the last answers were over the SLO.

Pure. Fed by `replay` with what `sender` tells of its progress.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.outcomes import Outcome, Result

WINDOW_S = 10.0
LEAST_ANSWERS = 20  # in a window, for a share to mean anything


@dataclass
class Breach:
    """`share`: of a window's answers; more over the SLO is a breach. Refused or failed is over it too."""

    share: float
    slo_s: float | None  # None: only what was refused or failed counts
    _parts: deque[tuple[float, int, int]] = field(default_factory=deque)  # at, answers, of them over

    def add(self, at_s: float, outcomes: Sequence[Outcome]) -> str:
        """What was answered until `at_s`, which never goes back. Returns why it is a breach; else nothing."""
        over = sum(is_over(outcome, self.slo_s) for outcome in outcomes)
        self._parts.append((at_s, len(outcomes), over))
        while self._parts[0][0] <= at_s - WINDOW_S:
            self._parts.popleft()
        answers = sum(part[1] for part in self._parts)
        over = sum(part[2] for part in self._parts)
        if answers < LEAST_ANSWERS or over <= self.share * answers:
            return ""
        what = "refused or failed" if self.slo_s is None else "slower than the SLO, refused or failed"
        return f"{over} of the last {answers} answers were {what}: more than {self.share:.3g} of them"


def is_over(outcome: Outcome, slo_s: float | None) -> bool:
    """Not completed, or later than the SLO if there is one."""
    return outcome.result is not Result.COMPLETED or (slo_s is not None and outcome.latency_s > slo_s)
