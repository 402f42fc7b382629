"""What a replica does at an operating point, as numbers: its engines, and when a batch leaves.

Pure values, made from a world and a point. `replica` acts by them, `steady` is keyed by them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from minwatt.v1.reflex import ReflexRule
from scaler.engine import Engine
from scaler.operating_point import OperatingPoint
from scaler.simulate.world import MAX_QUEUE_TEXTS, World

DUE_SHARE = 0.8  # of the SLO: when a text's compute should have ended, as the server plans it
# The server's usual error of its prediction, for noise of standard deviation 1: E|x| of a normal x.
_MEAN_ERROR = 0.8


@dataclass(frozen=True, slots=True)
class Rules:
    """All texts have the same length, so the server's rule comes down to numbers of texts and times.

    A batch leaves an idle engine when `full_texts` wait, when the oldest has waited `delay_s`, or when its
    slack is used up: `due_s` after its arrival, less `caution` times the predicted compute.
    """

    engine: Engine  # at the point's own clock
    raised: Engine  # at the clock that the reflex asks for
    backlog_s_per_text: float  # of what waits: a share of a full batch at the point's own clock
    batch_texts: int  # the most that ride together
    full_texts: int
    delay_s: float
    due_s: float
    caution: float
    slo_latency_s: float
    clock_delay_s: float
    noise: float
    queue_texts: int
    reflex: ReflexRule

    @property
    def fastest(self) -> Engine:
        """What a backlog is worked off with."""
        return min(self.engine, self.raised, key=lambda engine: engine.service_s(self.batch_texts))

    @property
    def capacity_rps(self) -> float:
        """With every batch full, at the highest clock that the replica may take."""
        return self.fastest.capacity_tps(self.batch_texts)

    @property
    def short_s(self) -> float:
        """The backlog above which the reflex is raised."""
        return self.reflex.short_share * self.slo_latency_s

    @property
    def raising_texts(self) -> int:
        """So many waiting before an idle engine raise the reflex, and so leave at once."""
        return math.floor(self.short_s / self.backlog_s_per_text) + 1

    @property
    def loose_s(self) -> float:
        """Up to so long after its oldest text came, a batch of any size may start at either clock."""
        slowest_s = max(self.engine.service_s(self.batch_texts), self.raised.service_s(self.batch_texts))
        return self.due_s - self.caution * slowest_s


def rules_of(world: World, point: OperatingPoint) -> Rules:
    """Raises ValueError for a clock or a variant that the profile doesn't have."""
    by_tokens = max(1.0, point.max_batch_tokens / world.profile.text_tokens)
    own_mhz = point.sm_clock_mhz  # 0: the card is left at its full clock, and nothing can be raised
    raised_mhz = max(own_mhz, point.reflex_sm_clock_mhz) if own_mhz else 0
    engine = world.engine(own_mhz, point.variant)
    return Rules(
        engine=engine,
        raised=world.engine(raised_mhz, point.variant),
        backlog_s_per_text=engine.alpha_s / min(point.max_batch_texts, by_tokens) + engine.beta_s_per_text,
        batch_texts=min(point.max_batch_texts, math.floor(by_tokens)),
        # Bound by tokens, a batch leaves when one more text has come that does not fit.
        full_texts=point.max_batch_texts if point.max_batch_texts <= by_tokens else math.floor(by_tokens) + 1,
        delay_s=point.max_delay_s,
        due_s=DUE_SHARE * point.slo_latency_s,
        caution=1 + _MEAN_ERROR * world.service_noise,
        slo_latency_s=point.slo_latency_s,
        clock_delay_s=world.clock_delay_s,
        noise=world.service_noise,
        queue_texts=MAX_QUEUE_TEXTS,
        reflex=ReflexRule(),
    )
