"""What comes through a front end is what comes without one: answers, refusals, and what is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock, patch

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from hypothesis import given, settings
from hypothesis import strategies as st

from minwatt.v1.inference_pb2 import (
    LONG_TEXT_TRUNCATE,
    Classification,
    ClassifyOptions,
    ClassifyRequest,
    ExtractEntitiesOptions,
    ExtractEntitiesRequest,
)
from service.fronts import channel, engine_door, front_end
from service.fronts.ring import SMALLEST_BYTES
from service.fronts.submitted import Shown
from service.oip import open_inference_pb2 as pb
from service.replies import AnyRequest, AnyResponse
from service.statuses import Refusal
from tests.service.fronts.one_process import Replica, replica
from tests.tiny_model import INTENTS, write_tiny_model

words = st.sampled_from(["alice", "smith", "new", "york", "東京", "José", "where", "card", "xxx", "😀", "!"])
texts = st.lists(st.lists(words, max_size=80).map(" ".join), min_size=1, max_size=5)
classify_options = st.builds(
    ClassifyOptions,
    top_k=st.integers(0, len(INTENTS) + 1),
    min_score=st.sampled_from([0.0, 0.2, 2.0]),
    long_text=st.sampled_from([0, LONG_TEXT_TRUNCATE]),
    no_cache=st.booleans(),
)
entity_options = st.builds(
    ExtractEntitiesOptions,
    min_score=st.sampled_from([0.0, 0.9]),
    long_text=st.sampled_from([0, LONG_TEXT_TRUNCATE]),
)
names = st.sampled_from(["", "", "tiny-text", "unknown"])
requests = st.one_of(
    st.builds(ClassifyRequest, texts=texts, model=names, options=st.none() | classify_options),
    st.builds(ExtractEntitiesRequest, texts=texts, model=names, options=st.none() | entity_options),
)
FEW_BYTES = SMALLEST_BYTES * 4  # of a ring


def without_cost(outcome: AnyResponse | BaseException) -> tuple[object, list[float]]:
    """What is the same, and scores: a sum's last bit may differ with the batch's width."""
    if isinstance(outcome, Refusal):
        return (outcome.code, outcome.reason, outcome.status().SerializeToString()), []
    assert not isinstance(outcome, BaseException)
    outcome.ClearField("usage")
    scores = []
    for result in outcome.results:
        for found in result.labels if isinstance(result, Classification) else result.entities:
            scores.append(found.score)
            found.ClearField("score")
    return outcome.SerializeToString(), scores


async def outcomes(one: Replica, asked: list[AnyRequest]) -> tuple[object, object]:
    """Of all at once through the front end; of one after the other without it."""
    together = await asyncio.gather(*map(one.ask, asked), return_exceptions=True)
    alone: list[AnyResponse | BaseException] = []
    for request in asked:
        alone += await asyncio.gather(one.ask_engine(request), return_exceptions=True)
    return [without_cost(one) for one in together], [
        (same, pytest.approx(scores, abs=1e-5)) for same, scores in map(without_cost, alone)
    ]


@settings(max_examples=25)
@given(
    asked=st.lists(requests, min_size=1, max_size=8),
    cache_bytes=st.sampled_from([0, 2**20]),
    ring_bytes=st.sampled_from([channel.RING_BYTES, FEW_BYTES]),
)
def test_outcomes_do_not_depend_on_front_ends_or_company(
    tiny_model: Path, asked: list[AnyRequest], cache_bytes: int, ring_bytes: int
) -> None:
    async def scenario() -> None:
        async with replica(tiny_model, cache_bytes=cache_bytes) as one:
            through, without = await outcomes(one, asked)
            assert through == without
            counters = one.parts.counters
            assert counters.arrivals == 2 * len(asked)
            assert counters.arrivals == counters.completions + counters.refusals.total()
            assert counters.in_flight == 0

    with patch.object(channel, "RING_BYTES", ring_bytes):
        asyncio.run(scenario())


async def test_what_is_known_costs_nothing(tiny_model: Path) -> None:
    request = ClassifyRequest(texts=["hello", "alice"])
    async with replica(tiny_model, cache_bytes=2**20) as one:
        assert (await one.ask(request)).usage.cached_texts == 0
        again = (await one.ask(request)).usage
        assert (again.cached_texts, again.tokens) == (2, 0)
        assert (await one.ask_engine(request)).usage.cached_texts == 2, "one cache, whoever asks"


async def test_a_full_ring_refuses_and_that_is_counted(tiny_model: Path) -> None:
    request = ExtractEntitiesRequest(texts=["alice lives in new york"])
    with patch.object(channel, "RING_BYTES", FEW_BYTES):
        async with replica(tiny_model) as one:
            asked = await asyncio.gather(*(one.ask(request) for _ in range(60)), return_exceptions=True)
            refused = [outcome for outcome in asked if isinstance(outcome, Refusal)]
            assert 0 < len(refused) < 60
            for refusal in refused:
                assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full")
                retry = RetryInfo()
                assert refusal.status().details[0].Unpack(retry)
                assert retry.retry_delay.ToMilliseconds() > 0
            await one.ask(request)
            await one.ask(request)
            assert one.parts.counters.refusals == {"queue_full": len(refused)}
            assert one.parts.counters.arrivals == 62


async def test_a_request_and_an_answer_that_no_ring_takes(tiny_model: Path) -> None:
    many = ClassifyRequest(texts=[f"hello {number}" for number in range(120)])
    longer = ExtractEntitiesRequest(texts=["alice lives in new york " * 8] * 60)
    with patch.object(channel, "RING_BYTES", FEW_BYTES):
        async with replica(tiny_model, max_texts=256) as one:
            answer_alone_is_large = ClassifyRequest(texts=["hello"] * 50)
            through, without = await outcomes(one, [many, longer, answer_alone_is_large])
            assert through == without


async def test_who_leaves_is_withdrawn(tiny_model: Path) -> None:
    async with replica(tiny_model, max_delay="10s", slo="60s") as one:
        waiting = asyncio.create_task(one.ask(ClassifyRequest(texts=["hello"])))
        leaving = asyncio.create_task(one.ask(ClassifyRequest(texts=["hello"])))
        while one.parts.counters.in_flight < 2:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        leaving.cancel()
        while one.parts.counters.in_flight == 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert one.parts.counters.refusals == {"cancelled": 1}
        waiting.cancel()
        await asyncio.wait({waiting, leaving})


async def test_a_reload_loses_no_request_and_lets_the_old_model_go(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny-text")
    request = ClassifyRequest(texts=["hello"])
    async with replica(model) as one:
        await one.ask(request)
        first = one.parts.lifecycle.models.default
        write_tiny_model(model, version="2", seed=8)
        reload = asyncio.create_task(one.parts.lifecycle.reload("tiny-text"))
        versions = []
        while not reload.done():
            versions.append((await one.ask(request)).model.version)
        await reload
        await one.door.followed()
        assert (await one.ask(request)).model.version == "2"
        assert versions == sorted(versions)
        assert not one.parts.lifecycle.models.users(first)


async def test_without_an_engine_all_is_refused_and_told_later(tiny_model: Path) -> None:
    async with replica(tiny_model) as one:
        one.remote.detach()
        with pytest.raises(Refusal, match="has ended or is starting") as raised:
            await one.ask(ClassifyRequest(texts=["hello"]))
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE


async def test_a_front_end_holds_no_more_than_the_replica_lets_in(tiny_model: Path) -> None:
    release = asyncio.Event()

    async def held(*_: object) -> None:
        await release.wait()

    async def hang(message: bytes, call: object) -> bytes:
        await release.wait()
        return b"done"

    async with replica(tiny_model, max_in_flight=3) as one:
        one.door._asked.methods["/hang"] = hang
        with patch.object(one.remote._preparing, "prepared", held):
            hanging = asyncio.create_task(one.remote.forward("/hang", b"", Shown({})))
            await asyncio.sleep(0)
            asked = [asyncio.create_task(one.ask(ClassifyRequest(texts=["hello"]))) for _ in range(5)]
            await asyncio.wait({asked[4]})
            assert [task.done() for task in asked] == [False, False, True, True, True]
            with pytest.raises(Refusal, match="3 requests in flight"):
                await one.remote.forward("/hang", b"", Shown({}))
            release.set()
            outcomes = await asyncio.gather(hanging, *asked, return_exceptions=True)
        assert outcomes[0] == b"done"
        refused = [outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)]
        assert refused == ["queue_full"] * 3
        await one.ask(ClassifyRequest(texts=["hello"]))
        await one.ask(ClassifyRequest(texts=["hello"]))
        assert one.parts.counters.refusals == {"queue_full": 3}
        assert one.parts.counters.arrivals == 7


async def test_nothing_is_forwarded_to_an_engine_that_does_not_read(tiny_model: Path) -> None:
    async with replica(tiny_model) as one:
        with (
            patch.object(channel.Channel, "unsent_bytes", 2**30),
            pytest.raises(Refusal, match="has not read what came before"),
        ):
            await one.remote.forward("/hang", b"", Shown({}))


@pytest.mark.parametrize("where", ["front end", "engine"])
async def test_what_fails_unexpectedly_is_a_counted_refusal(tiny_model: Path, where: str) -> None:
    broken = Mock(side_effect=ZeroDivisionError)
    async with replica(tiny_model) as one:
        telemetry = Mock(wraps=one.door._asked.telemetry)
        breaking = (
            patch("service.fronts.remote.response_of", broken)
            if where == "front end"
            else patch.object(one.door._asked.submitted, "_reply", broken)
        )
        with (
            breaking,
            patch.object(one.door._asked, "telemetry", telemetry),
            pytest.raises(Refusal, match="unexpected ZeroDivisionError") as raised,
        ):
            await asyncio.wait_for(one.ask(ClassifyRequest(texts=["hello"])), 30)
        assert raised.value.code is grpc.StatusCode.INTERNAL
        with patch.object(one.door._asked, "telemetry", telemetry):
            await one.ask(ClassifyRequest(texts=["hello"]))
            await one.ask(ClassifyRequest(texts=["hello"]))
        assert one.parts.counters.refusals == {"failed": 1}
        assert one.parts.counters.in_flight == 0
        for call in telemetry.refused.call_args_list:
            assert call.args[2].code is grpc.StatusCode.INTERNAL


async def test_a_request_for_a_model_that_is_gone_is_counted(tiny_model: Path) -> None:
    async with replica(tiny_model) as one:
        with (
            patch.object(one.door._residents, "find", lambda _: None),
            pytest.raises(Refusal, match="has just been replaced"),
        ):
            await one.ask(ClassifyRequest(texts=["hello"]))
        assert one.parts.counters.refusals == {"starting": 1}
        assert (one.parts.counters.arrivals, one.parts.counters.in_flight) == (1, 0)


async def test_a_front_end_that_hangs_is_ended_and_models_go(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny-text")
    async with replica(model) as one:
        first = one.parts.lifecycle.models.default
        with patch.object(one.remote, "follow"), patch.object(engine_door, "SEEN_S", 0.05):
            write_tiny_model(model, version="2", seed=8)
            await one.parts.lifecycle.reload("tiny-text")
            await asyncio.wait_for(one.door.followed(), 30)
        assert one.door.up == 0
        assert not one.parts.lifecycle.models.users(first)


async def test_a_front_end_tells_what_it_used_for_this_engine_process(tiny_model: Path) -> None:
    used = Mock(ru_utime=1000.0, ru_stime=0.0)
    with (
        patch.object(front_end, "resource", Mock(getrusage=lambda _: used)),
        patch.object(front_end, "SPENT_EVERY_S", 0.01),
    ):
        async with replica(tiny_model) as one:
            used.ru_utime = 1002.0
            async with asyncio.timeout(30):
                while not one.door.cpu_s:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.001)
            assert one.door.cpu_s == 2.0


async def test_probes_are_answered_without_an_engine(tiny_model: Path) -> None:
    async with replica(tiny_model) as one:
        assert one.front_end._told is not None
        [_, service] = one.front_end._services(one.front_end._told.world)
        names = list(front_end.Catalog(one.front_end).models)
        name = pb.ModelReadyRequest(name=names[0]).SerializeToString()

        async def told() -> tuple[bool, bool, bool]:
            live = await service.unary["ServerLive"](b"", Shown({}))
            ready = await service.unary["ServerReady"](b"", Shown({}))
            model = await service.unary["ModelReady"](name, Shown({}))
            return (
                pb.ServerLiveResponse.FromString(live).live,
                pb.ServerReadyResponse.FromString(ready).ready,
                pb.ModelReadyResponse.FromString(model).ready,
            )

        assert await told() == (True, True, True)
        one.remote.detach()
        assert await told() == (True, False, False)
