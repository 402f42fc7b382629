"""Energy cards with figures that are known."""

from __future__ import annotations

from datetime import UTC, datetime

from modelkit.card.measurements import Card, Machine, Meter, Timing, VariantCard
from modelkit.scoring.intervals import Interval, Spread, wilson

TEXTS = 3000


def spread(median: float, off: float) -> Spread:
    return Spread(median=median, low=median * (1 - off), high=median * (1 + off))


def timing(slower: float = 1.0, off: float = 0.05, tokens: int | None = None) -> Timing:
    """Batches of 8 in 50 ms, each round off by `off`."""
    p50_s, p99_s = 0.05 * slower, 0.12 * slower
    return Timing(
        texts=8,
        tokens=tokens,
        calls=100,
        p50_s=p50_s,
        p99_s=p99_s,
        texts_per_s=spread(160 / slower, off),
        watts=spread(2.0, off),
        joules_per_1000_texts=spread(14.0 * slower, off),
        p50_interval_s=Interval(value=p50_s, low=p50_s * (1 - off), high=p50_s * (1 + off)),
        p99_interval_s=Interval(value=p99_s, low=p99_s * (1 - off), high=p99_s * (1 + off)),
    )


def variant(name: str = "int8", right: int = 2800, slower: float = 1.0, off: float = 0.05) -> VariantCard:
    return VariantCard(
        variant=name,
        sha256="a" * 64,
        parameters=1000,
        disk_bytes=24_000_000,
        resident_bytes=46_000_000,
        accuracy=wilson(right, TEXTS),
        entity_f1=Interval(value=0.76, low=0.74, high=0.78),
        own=timing(slower, off),
        grid=(timing(slower, off, tokens=16),),
        gco2_per_million_texts=None,
        battery_hours=None,
        battery_texts=None,
        on_front=True,
    )


def card(*variants: VariantCard, source: str = "rapl", rounds: int = 7, split: str = "test") -> Card:
    """One variant where none is given."""
    return Card(
        model="tiny",
        version="1",
        measured_at=datetime(2026, 1, 1, tzinfo=UTC),
        machine=Machine(
            device="a CPU",
            provider="cpu",
            threads=1,
            system="Linux",
            python="3.13",
            versions={},
            others_busy_cores=0.0,
        ),
        meter=Meter(source=source),
        split=split,
        sets={"intent": "questions"},
        texts=TEXTS,
        sentences=0,
        rounds=rounds,
        round_s=0.5,
        seed=1,
        intensity=None,
        battery_wh=None,
        variants=variants or (variant(),),
        comparisons=(),
    )
