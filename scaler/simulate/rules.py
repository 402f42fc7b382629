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
# The server's admission: how long it remembers what was asked for; from what share of what can be done on its
# margin counts, and where it does in full.
OFFERED_OVER_S = 2.0
SPARE_LOAD, FULL_LOAD = 0.8, 1.0
_PASSING = 1.5  # batches
# The server's usual error of its prediction, for noise of standard deviation 1: E|x| of a normal x.
_MEAN_ERROR = 0.8


@dataclass(frozen=True, slots=True)
class Rules:
    """All texts have the same length, so the server's rule comes down to numbers of texts and times.

    A batch leaves an idle engine when `full_texts` wait, when the oldest has waited `delay_s`, or when its
    slack is used up: `due_s` after its arrival, less `caution` times the predicted compute. A request is
    refused that would find so many waiting that it could not be answered within `due_s`: `queue_texts`, or
    `overload_texts` where more is asked for than can be done.
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
    overload_texts: int
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
    def overload_batch_texts(self) -> int:
        """Of a batch while more is asked for than can be done."""
        return min(self.batch_texts, self.overload_texts)

    @property
    def overload_rps(self) -> float:
        """What is done then."""
        return self.fastest.capacity_tps(self.overload_batch_texts)

    @property
    def passing_s(self) -> float:
        """What a text needs then beside the backlog: half of the batch in the engine, and its own."""
        return _PASSING * self.fastest.service_s(self.overload_batch_texts)

    @property
    def overload_backlog_texts(self) -> float:
        """So many wait then beside a text's own batch that the last of them is answered by `due_s`."""
        return min(self.queue_texts, max(0.0, (self.due_s - self.passing_s) * self.overload_rps))

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
    engine, raised = world.engine(own_mhz, point.variant), world.engine(raised_mhz, point.variant)
    due_s, most = DUE_SHARE * point.slo_latency_s, min(point.max_batch_texts, math.floor(by_tokens))
    caution = 1 + _MEAN_ERROR * world.service_noise
    fastest = min(engine, raised, key=lambda one: one.service_s(most))
    return Rules(
        engine=engine,
        raised=raised,
        backlog_s_per_text=engine.alpha_s / min(point.max_batch_texts, by_tokens) + engine.beta_s_per_text,
        batch_texts=most,
        # Bound by tokens, a batch leaves when one more text has come that does not fit.
        full_texts=point.max_batch_texts if point.max_batch_texts <= by_tokens else math.floor(by_tokens) + 1,
        delay_s=point.max_delay_s,
        due_s=due_s,
        caution=caution,
        slo_latency_s=point.slo_latency_s,
        clock_delay_s=world.clock_delay_s,
        noise=world.service_noise,
        queue_texts=_texts_of(due_s, fastest, most, 1),
        overload_texts=_overload_texts(due_s / caution, fastest, most),
        reflex=ReflexRule.raised_above(point.reflex_backlog_s, point.slo_latency_s),
    )


def _overload_texts(due_s: float, engine: Engine, most: int) -> int:
    """How many may wait while more is asked for than can be done.

    The server's margin (service.admission) has learnt then what an answer takes beyond the wait for those
    before it: the batch in the engine and its own. Of the largest batches two take no longer than `due_s`.
    """
    riding = min(float(most), max(1.0, (due_s / 2 - engine.alpha_s) // engine.beta_s_per_text))
    return _texts_of(due_s - 2 * engine.service_s(riding), engine, most, int(riding))


def _texts_of(seconds: float, engine: Engine, most: int, least: int) -> int:
    """In full batches. One may always wait."""
    return min(MAX_QUEUE_TEXTS, max(least, math.floor(seconds * engine.capacity_tps(most))))
