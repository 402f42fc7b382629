"""What is shown is what docs/metrics.md says, with labels from fixed sets and the SLO among the buckets."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwatt.v1.inference_pb2 import ClassifyRequest
from service import metric_catalogue
from service.assembly import Parts
from service.metric_catalogue import BY_NAME, FAMILIES, LABELS, NOT_THE_SERVERS
from service.statuses import REASONS, Refusal
from tests.service.cache.test_known import ask, replica

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_fresh() -> None:
    written = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert written == metric_catalogue.page(), "python -m service.metric_catalogue > docs/metrics.md"


class TwoFrontEnds:
    up, lost, cpu_s = 2, 1, 3.5


def test_each_label_is_described() -> None:
    assert {label for family in FAMILIES for label in family.labels} == set(LABELS)
    assert len(BY_NAME) == len(FAMILIES)


async def used(parts: Parts) -> None:
    await parts.power.share()
    for texts in (["hello"], ["hello", "my card"], []):
        try:
            await ask(parts, ClassifyRequest(texts=texts))
        except Refusal:
            assert not texts


async def test_what_is_shown_stands_in_the_catalogue(tiny_model: Path, tmp_path: Path) -> None:
    async with replica(tiny_model, cache_bytes=1024**2, slo="37ms", capture=tmp_path) as parts:
        await used(parts)
        parts.card_clock.in_force_mhz = 900  # as if a card were there
        parts.metrics.watch_front_ends(TwoFrontEnds())
        shown = {family.name: family for family in parts.metrics.registry.collect()}
    assert shown.keys() == BY_NAME.keys()
    for name, family in shown.items():
        said = BY_NAME[name]
        assert (family.documentation, family.type) == (said.text, said.kind)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(said.labels), sample


@pytest.mark.parametrize(("slo", "bound"), [("50ms", 0.05), ("37ms", 0.037), ("30s", 30.0)])
async def test_the_share_within_the_slo_can_be_read(tiny_model: Path, slo: str, bound: float) -> None:
    async with replica(tiny_model, slo=slo) as parts:
        await used(parts)
        for name in ("minwatt_request_duration_seconds", "minwatt_queue_seconds"):
            (family,) = (one for one in parts.metrics.registry.collect() if one.name == name)
            bounds = [float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket")]
            assert bound in bounds
            assert bounds.count(bound) <= 2  # once a status


async def test_no_client_makes_series(tiny_model: Path) -> None:
    """Unknown models, odd texts and tasks: the number of series stays."""

    def series(parts: Parts) -> int:
        return sum(len(family.samples) for family in parts.metrics.registry.collect())

    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        await used(parts)
        counts = set()
        for number in range(20):
            with pytest.raises(Refusal):
                await ask(parts, ClassifyRequest(texts=["x"], model=f"model{number}"))
            await ask(parts, ClassifyRequest(texts=[f"text {number}"]))
            counts.add(series(parts))
    assert len(counts) == 1


async def test_an_answer_counts_by_the_slo_of_its_moment(tiny_model: Path) -> None:
    async with replica(tiny_model, slo="10s") as parts:
        await parts.power.share()
        for slo_s in (10.0, 1e-9, 10.0):  # as operating points move it
            parts.replica.slo_s = slo_s
            await ask(parts, ClassifyRequest(texts=[f"hello {slo_s}"]))
        with pytest.raises(Refusal):
            await ask(parts, ClassifyRequest(texts=[]))
        (family,) = (one for one in parts.metrics.registry.collect() if one.name == "minwatt_slo_requests")
    counted = {sample.labels["slo"]: sample.value for sample in family.samples}
    assert counted == {"met": 2, "missed": 1}  # who was refused stands in minwatt_refusals_total


def test_what_is_no_failure_of_the_servers_is_a_reason() -> None:
    assert set(NOT_THE_SERVERS) < set(REASONS)
