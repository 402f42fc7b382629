"""What ModelStatistics tells: counts and times of the requests that came by this protocol, by model.

Pure state. Written by `infer`, told by `service`. Fields and what they leave out are Triton's: a request of
which nothing had to be computed is a cache hit and no inference, one that asked the cache and computed is a
miss, and one that did not ask is neither. Batches are shared with requests of other tasks and
protocols: a text that was computed in a batch of 8 counts as an eighth of an execution.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from service.oip import open_inference_pb2 as pb
from service.request import Cost


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one request: all of it, from message to minwatt.v1 request, and from answer to reply."""

    latency_s: float
    input_s: float
    output_s: float


@dataclass(slots=True)
class _Executions:
    """At one batch size."""

    count: float = 0.0
    compute_s: float = 0.0


@dataclass(slots=True)
class ModelCounts:
    """Of one model since the server's start."""

    last_at_s: float = 0.0  # since the epoch; 0: never
    succeeded: int = 0  # hits included
    succeeded_s: float = 0.0
    failed: int = 0
    failed_s: float = 0.0
    queue_s: float = 0.0
    input_s: float = 0.0
    compute_s: float = 0.0
    output_s: float = 0.0
    texts: int = 0  # computed
    hits: int = 0
    hits_s: float = 0.0
    misses: int = 0
    misses_s: float = 0.0
    executions: defaultdict[int, _Executions] = field(default_factory=lambda: defaultdict(_Executions))

    def answered(self, now_s: float, took: Took, texts: int, cost: Cost) -> None:
        """`now_s` since the epoch."""
        self.last_at_s = now_s
        self.succeeded += 1
        self.succeeded_s += took.latency_s
        self.queue_s += cost.queue_s
        computed = texts - cost.cached_texts
        if not computed:
            self.hits += 1
            self.hits_s += cost.cache_s or 0.0
            return
        if cost.cache_s is not None:
            self.misses += 1
            self.misses_s += cost.cache_s
        self.input_s += took.input_s
        self.compute_s += cost.compute_s
        self.output_s += took.output_s
        self.texts += computed
        if cost.batch_texts:
            share = computed / cost.batch_texts
            executions = self.executions[cost.batch_texts]
            executions.count += share
            executions.compute_s += share * cost.compute_s

    def unanswered(self, now_s: float, latency_s: float) -> None:
        """Refused, failed, or given up by the client."""
        self.last_at_s = now_s
        self.failed += 1
        self.failed_s += latency_s

    def told(self, name: str, version: str) -> pb.ModelStatistics:
        """`compute_*` have the same count: perf_analyzer insists on it."""
        computed = self.succeeded - self.hits
        return pb.ModelStatistics(
            name=name,
            version=version,
            last_inference=round(self.last_at_s * 1000),
            inference_count=self.texts,
            execution_count=round(sum(one.count for one in self.executions.values())),
            inference_stats=pb.InferStatistics(
                success=_duration(self.succeeded, self.succeeded_s),
                fail=_duration(self.failed, self.failed_s),
                queue=_duration(self.succeeded, self.queue_s),
                compute_input=_duration(computed, self.input_s),
                compute_infer=_duration(computed, self.compute_s),
                compute_output=_duration(computed, self.output_s),
                cache_hit=_duration(self.hits, self.hits_s),
                cache_miss=_duration(self.misses, self.misses_s),
            ),
            batch_stats=[
                pb.InferBatchStatistics(
                    batch_size=size, compute_infer=_duration(round(one.count), one.compute_s)
                )
                for size, one in sorted(self.executions.items())
            ],
        )


def _duration(count: int, total_s: float) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=round(total_s * 1e9))
