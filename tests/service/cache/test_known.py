"""A replica with a cache: what is computed, what a reply says of it, and that no answer changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY
from minwatt.v1.inference_pb2 import (
    LONG_TEXT_TRUNCATE,
    Classification,
    ClassifyOptions,
    ClassifyRequest,
    ClassifyResponse,
    EntityList,
    ExtractEntitiesOptions,
    ExtractEntitiesRequest,
)
from service.assembly import Parts, assemble
from service.cache.keys import ModelKeys
from service.cache.known import KnownAnswers
from service.gate import Ask
from service.replies import AnyRequest, AnyResponse
from service.settings import ServeSettings
from service.statuses import Refusal
from service.validation import Options
from tests.tiny_model import MAX_TOKENS

OPTIONS = Options(top_k=1, min_score=0.0, truncate=False)
TEXTS = [f"my card is at bank {number}" for number in range(16)]


@contextlib.asynccontextmanager
async def replica(model: Path, **flags: object) -> AsyncIterator[Parts]:
    parts = assemble(ServeSettings.of_flags(**{"model": model, "meter": "modelled", "slo": "10s", **flags}))
    parts.replica.state = REPLICA_STATE_READY
    run = asyncio.create_task(parts.lifecycle.run())
    try:
        yield parts
    finally:
        run.cancel()
        await asyncio.wait({run})
        parts.inference.close()
        parts.power.close()


def answers_by(parts: Parts, known: KnownAnswers) -> None:
    object.__setattr__(parts.lifecycle.models.default, "known", known)


async def ask(parts: Parts, request: AnyRequest, timeout_s: float = 30.0) -> AnyResponse:
    method = "Classify" if isinstance(request, ClassifyRequest) else "ExtractEntities"
    return await parts.inference.answer(request, parts.inference.arrival(method, None, timeout_s))


async def test_of_sixteen_texts_ten_known_six_are_computed(tiny_model: Path) -> None:
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        await ask(parts, ClassifyRequest(texts=TEXTS[:10]))
        before = parts.counters.tokens
        reply = await ask(parts, ClassifyRequest(texts=TEXTS))
        six = parts.counters.tokens - before
        assert reply.usage.cached_texts == 10
        assert reply.usage.tokens == six > 0
        assert sum(size * count for size, count in parts.counters.batch_sizes.items()) == 16
        assert parts.counters.texts == 26


async def test_a_hit_costs_no_engine_time_and_says_so(tiny_model: Path) -> None:
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        await parts.power.share()
        first = await ask(parts, ClassifyRequest(texts=TEXTS[:3]))
        batches = parts.counters.batch_sizes.total()
        busy_s = parts.counters.busy_s
        reply = await ask(parts, ClassifyRequest(texts=TEXTS[:3]))
        assert list(reply.results) == list(first.results)
        usage = reply.usage
        assert (usage.cached_texts, usage.tokens, usage.batch_size) == (3, 0, 0)
        assert (usage.queue_seconds, usage.compute_seconds, usage.energy_joules) == (0, 0, 0)
        assert usage.energy_source == "modelled"
        assert (parts.counters.batch_sizes.total(), parts.counters.busy_s) == (batches, busy_s)
        assert parts.counters.completions == 2


async def test_a_known_text_has_the_same_bytes_for_any_options(tiny_model: Path) -> None:
    texts = ["Alice Smith lives in New York", "where is my card", "東京 acme bank"]
    requests: list[AnyRequest] = [
        ClassifyRequest(texts=texts, options=ClassifyOptions(top_k=k, min_score=score))
        for k in (0, 1, 3, 5)
        for score in (0.0, 0.1, 0.5)
    ]
    requests += [
        ExtractEntitiesRequest(texts=texts, options=ExtractEntitiesOptions(min_score=score))
        for score in (0.0, 0.5, 0.9, 1.0)
    ]
    async with replica(tiny_model) as plain, replica(tiny_model, cache_bytes=1024**2) as caching:
        for turn in range(2):
            for request in requests:
                computed = await ask(plain, request)
                known = await ask(caching, request)
                assert [r.SerializeToString() for r in known.results] == [
                    r.SerializeToString() for r in computed.results
                ]
                if turn:
                    assert known.usage.cached_texts == len(texts)
        assert caching.counters.tokens < plain.counters.tokens / 10


WORDS = ["alice", "smith", "lives", "in", "new", "york", "東", "京", "acme", "bank", "card"]
ASKED = st.lists(
    st.tuples(
        st.booleans(),  # which task
        st.lists(
            st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join), min_size=1, max_size=4
        ),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=10)
@given(ASKED, ASKED)
def test_known_answers_do_not_depend_on_company(
    tiny_model: Path, first: list[tuple[bool, list[str]]], later: list[tuple[bool, list[str]]]
) -> None:
    """Known, joined, or computed beside others: each text's answer is the one it has alone."""

    def request(entities: bool, texts: list[str]) -> AnyRequest:
        return ExtractEntitiesRequest(texts=texts) if entities else ClassifyRequest(texts=texts)

    async def play() -> None:
        async with replica(tiny_model) as plain, replica(tiny_model, cache_bytes=1024**2) as caching:
            for turn in (first, later):
                replies = await asyncio.gather(*(ask(caching, request(*one)) for one in turn))
                for (entities, texts), reply in zip(turn, replies, strict=True):
                    for text, result in zip(texts, reply.results, strict=True):
                        alone = (await ask(plain, request(entities, [text]))).results[0]
                        assert alike(result, alone)
            computed = sum(n * count for n, count in caching.counters.batch_sizes.items())
            distinct = {(entities, text) for entities, texts in first + later for text in texts}
            assert computed == len(distinct)

    asyncio.run(play())


def alike(one: object, other: object) -> bool:
    """But for the last bits of scores, which a batch's shape may move."""
    if isinstance(one, EntityList) and isinstance(other, EntityList):
        same = [(e.label, e.start, e.end, e.text) for e in one.entities] == [
            (e.label, e.start, e.end, e.text) for e in other.entities
        ]
        return same and [e.score for e in one.entities] == pytest.approx([e.score for e in other.entities])
    assert isinstance(one, Classification)
    assert isinstance(other, Classification)
    same = [label.name for label in one.labels] == [label.name for label in other.labels]
    return same and [label.score for label in one.labels] == pytest.approx(
        [label.score for label in other.labels]
    )


async def test_no_cache_computes_and_keeps_nothing(tiny_model: Path) -> None:
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        plain = ClassifyRequest(texts=["hello"])
        alone = ClassifyRequest(texts=["hello"], options=ClassifyOptions(no_cache=True))
        await ask(parts, alone)
        assert (await ask(parts, plain)).usage.cached_texts == 0  # the first one was not kept
        reply = await ask(parts, alone)
        assert (reply.usage.cached_texts, reply.usage.tokens) == (0, 3)
        assert (await ask(parts, plain)).usage.cached_texts == 1


async def test_requests_at_once_share_what_one_computes(tiny_model: Path) -> None:
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        replies = await asyncio.gather(*(ask(parts, ClassifyRequest(texts=["hello"])) for _ in range(20)))
        assert sum(reply.usage.tokens for reply in replies) == 3  # [CLS] hello [SEP], once
        assert sum(reply.usage.cached_texts for reply in replies) == 19
        assert len({reply.results[0].SerializeToString() for reply in replies}) == 1


async def test_a_leader_that_is_refused_leaves_its_followers_to_take_over(tiny_model: Path) -> None:
    too_long = "card " * (MAX_TOKENS + 1)
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        refused = ask(parts, ClassifyRequest(texts=["hello", too_long]))
        answered = ask(parts, ClassifyRequest(texts=["hello"]))
        ends = await asyncio.gather(refused, answered, return_exceptions=True)
        assert isinstance(ends[0], Refusal)
        assert ends[0].code is grpc.StatusCode.INVALID_ARGUMENT
        assert ends[0].message.startswith("texts[1]")
        assert isinstance(ends[1], ClassifyResponse)


async def test_a_refusal_names_the_text_by_its_place_in_the_request(tiny_model: Path) -> None:
    too_long = "card " * (MAX_TOKENS + 1)
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        await ask(parts, ClassifyRequest(texts=TEXTS[:9]))
        with pytest.raises(Refusal, match=r"^texts\[9\]"):
            await ask(parts, ClassifyRequest(texts=[*TEXTS[:9], too_long]))
        cut = ClassifyRequest(texts=[too_long], options=ClassifyOptions(long_text=LONG_TEXT_TRUNCATE))
        assert (await ask(parts, cut)).results[0].truncated
        assert (await ask(parts, cut)).results[0].truncated
        with pytest.raises(Refusal, match=r"^texts\[0\]"):  # known as a cut text, not as a whole one
            await ask(parts, ClassifyRequest(texts=[too_long]))


async def test_admission_counts_a_request_of_known_texts(tiny_model: Path) -> None:
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        await ask(parts, ClassifyRequest(texts=["hello"]))
        parts.counters.in_flight = 512
        with pytest.raises(Refusal, match="512 requests are in flight"):
            await ask(parts, ClassifyRequest(texts=["hello"]))


async def test_another_variant_or_version_shares_nothing(tiny_model: Path) -> None:
    """As after a reload: the store stays, the model's keys are new."""
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        spec = parts.lifecycle.models.default.directory.spec
        cache = parts.cache
        assert cache is not None
        newer = spec.model_copy(update={"version": "2"})
        for number, known in enumerate(
            [
                cache.of_model(spec, "int8", "cpu"),
                cache.of_model(spec, "fp32", "cpu"),
                cache.of_model(newer, "int8", "cpu"),
            ]
        ):
            answers_by(parts, known)
            reply = await ask(parts, ClassifyRequest(texts=["hello"]))
            assert reply.usage.cached_texts == 0, number
        answers_by(parts, cache.of_model(spec, "int8", "cpu"))  # switched back
        assert (await ask(parts, ClassifyRequest(texts=["hello"]))).usage.cached_texts == 1


async def test_scopes_learn_nothing_of_one_another(tiny_model: Path) -> None:
    async with replica(tiny_model, cache_bytes=1024**2) as parts:
        assert parts.cache is not None
        known = KnownAnswers(
            parts.cache.flights,
            ModelKeys(parts.cache.secret, parts.lifecycle.models.default.directory.spec, "int8", "cpu"),
        )
        computed: list[int] = []
        task, options = parts.lifecycle.models.default.directory.spec.tasks[0], OPTIONS

        async def compute(indexes, keep):  # type: ignore[no-untyped-def]
            computed.extend(indexes)
            request = ClassifyRequest(texts=["hello"])
            inference = parts.inference
            arrival = inference.arrival("Classify", None, 30.0)
            model = parts.lifecycle.models.default
            caller = inference._access.caller(None, "infer")
            ask = Ask(1, request.ByteSize(), False, arrival.arrived_s, arrival.deadline_s)
            entered = model.gate.enter(ask, caller)
            try:
                return await inference._computed(
                    model, task, options, request.texts, arrival, entered, indexes, keep
                )
            finally:
                model.gate.leave(entered)

        for scope, shared in (("a", 0), ("b", 0), ("a", 1), ("", 0)):
            answered = await known.answered(task, options, ["hello"], compute, scope=scope)
            assert answered.cost.cached_texts == shared
        assert len(computed) == 3
