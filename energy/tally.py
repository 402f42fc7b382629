"""Joules, mean and highest watts of a stretch of time, from a meter's readings.

Pure. Owns what counts: only spans between two readings that are both known. What was drawn while a meter said
nothing is not made up; how long that was is said. Called by `minwatt measure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from energy.reading import Reading, Unknown

_NO_REASONS: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Tally:
    """`joules` were drawn in `known_s`; `unknown_s` by reason lie beside it. `peak_w`: the highest mean of a
    span between two readings. No span known: there are no watts, and no 0 either.
    """

    joules: float = 0.0
    known_s: float = 0.0
    peak_w: float | None = None
    sources: frozenset[str] = frozenset()
    unknown_s: Mapping[str, float] = field(default_factory=lambda: _NO_REASONS)
    _last: Reading | Unknown | None = None

    def after(self, now: Reading | Unknown) -> Tally:
        """With a later reading; one at the same moment takes the last one's place."""
        before = self._last
        if before is None or now.at_s <= before.at_s:
            return replace(self, _last=now)
        span_s = now.at_s - before.at_s
        if isinstance(before, Unknown):
            return replace(self._without(before.reason, span_s), _last=now)
        if isinstance(now, Unknown):
            return replace(self._without(now.reason, span_s), _last=now)
        drawn_j = max(0.0, now.joules_total - before.joules_total)
        return replace(
            self,
            joules=self.joules + drawn_j,
            known_s=self.known_s + span_s,
            peak_w=max(self.peak_w or 0.0, drawn_j / span_s),
            sources=self.sources | {now.source},
            _last=now,
        )

    def _without(self, reason: str, span_s: float) -> Tally:
        return replace(self, unknown_s={**self.unknown_s, reason: self.unknown_s.get(reason, 0.0) + span_s})

    @property
    def average_w(self) -> float | None:
        return self.joules / self.known_s if self.known_s > 0 else None

    @property
    def source(self) -> str:
        """The kinds of meters, joined with +, or unknown."""
        return "+".join(sorted(self.sources)) or "unknown"
