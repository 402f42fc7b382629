"""Models that come and go under requests: every request is answered, by one model or the other; what is wrong
with a model harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY, OperatingPoint
from minwatt.v1.inference_pb2 import ClassifyOptions, ClassifyRequest, ClassifyResponse
from service.assembly import Parts, assemble
from service.engine import Encoder
from service.lifecycle.loading import AS_SERVED, Makers
from service.lifecycle.memory import Memory, Usage
from service.runtime.onnx import OnnxEncoder
from service.runtime.options import RuntimeOptions
from service.settings import ServeSettings
from service.statuses import Refusal
from tests.eventually import WAIT_S, happens
from tests.service.lifecycle.damage import DAMAGES, missing_task, no_numbers, other_padding
from tests.tiny_model import INTENTS, write_tiny_model

Scores = dict[str, float]
TURNS = 20  # of the event loop: more than anything takes that waits for no thread
TEXTS = ("hello", "where is my card", "cancel it", "the balance of my card in new york", "rate")


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(*models: Path, makers: Makers = AS_SERVED, **flags: object) -> AsyncIterator[Parts]:
    """A ready replica without a door."""
    parts = assemble(ServeSettings.of_flags(model=models, meter="modelled", slo="10s", **flags), makers)
    await parts.lifecycle.warm()
    running = asyncio.create_task(parts.lifecycle.run())
    await asyncio.sleep(0)
    parts.replica.state = REPLICA_STATE_READY
    try:
        yield parts
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        parts.inference.close()
        parts.power.close()


async def classify(parts: Parts, texts: Sequence[str] = TEXTS[:1], model: str = "") -> ClassifyResponse:
    request = ClassifyRequest(model=model, texts=texts, options=ClassifyOptions(top_k=len(INTENTS)))
    reply = await parts.inference.answer(request, parts.inference.arrival("Classify", None, 30.0))
    assert isinstance(reply, ClassifyResponse)
    return reply


def scores(reply: ClassifyResponse) -> list[Scores]:
    return [{label.name: label.score for label in result.labels} for result in reply.results]


def alike(answers: list[Scores], others: list[Scores]) -> bool:
    """But for the rounding of batches of other shapes; two models' scores differ by far more."""
    return len(answers) == len(others) and all(
        answer == pytest.approx(other, abs=1e-5) for answer, other in zip(answers, others, strict=True)
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny-text", variants=("int8", "fp16"))


async def test_several_models_answer_side_by_side(tmp_path: Path) -> None:
    first = write_tiny_model(tmp_path / "a", name="first")
    second = write_tiny_model(tmp_path / "b", name="second", version="9", seed=100)
    async with serving(first, second) as parts:
        asked = ("", "first", "second") * 5
        replies = await asyncio.gather(*(classify(parts, TEXTS, name) for name in asked))
        assert [reply.model.name for reply in replies] == ["first", "first", "second"] * 5
        assert replies[2].model.version == "9"
        for index, reply in enumerate(replies):
            assert alike(scores(reply), scores(replies[index % 3]))
        assert alike(scores(replies[0]), scores(replies[1]))
        assert not alike(scores(replies[0]), scores(replies[2]))
        with pytest.raises(Refusal, match="'third' is not served here; available: first, second"):
            await classify(parts, model="third")


def test_two_models_of_one_name_are_refused(tmp_path: Path, model: Path) -> None:
    twin = write_tiny_model(tmp_path / "twin")
    with pytest.raises(UsageError, match="is named 'tiny-text' as "):
        assemble(ServeSettings.of_flags(model=[model, twin], meter="modelled"))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pauses=st.lists(st.integers(0, 4), min_size=4, max_size=30),
    swaps=st.lists(st.sampled_from(("reload", "int8", "fp16")), min_size=1, max_size=4),
)
def test_requests_across_swaps_are_all_answered_as_each_model_alone_answers(
    tmp_path: Path, pauses: list[int], swaps: list[str]
) -> None:
    """Whatever comes when: each reply is exactly what its version and variant say of these texts alone."""

    async def scenario() -> None:
        path = write_tiny_model(tmp_path / "swapped", version="0", variants=("int8", "fp16"))
        async with serving(path) as parts:
            alone: dict[str, list[Scores]] = {}

            async def learn() -> None:
                reply = await classify(parts, TEXTS)
                alone[f"{reply.model.version} {reply.model.variant}"] = scores(reply)

            async def one(index: int) -> tuple[str, int, Scores]:
                text = index % len(TEXTS)
                reply = await classify(parts, [TEXTS[text]])
                return f"{reply.model.version} {reply.model.variant}", text, scores(reply)[0]

            async def change() -> None:
                for version, swap in enumerate(swaps, start=1):
                    if swap == "reload":
                        write_tiny_model(
                            path, version=str(version), variants=("int8", "fp16"), seed=50 * version
                        )
                        await parts.lifecycle.reload("tiny-text")
                    else:
                        await parts.lifecycle.load("tiny-text", swap)
                    await learn()

            await learn()
            changing = asyncio.create_task(change())
            requests = []
            for index, pause in enumerate(pauses):
                requests += [asyncio.create_task(one(index + more)) for more in range(3)]
                for _ in range(pause):
                    await asyncio.sleep(0.002)
            await changing
            for who, text, answer in await asyncio.gather(*requests):
                assert alike([answer], [alone[who][text]]), who
            counters = parts.counters
            assert (counters.completions, counters.in_flight) == (len(requests) + 1 + len(swaps), 0)
            assert parts.lifecycle.replacements["tiny-text"] == len(swaps)

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_a_wrong_model_is_refused_and_the_old_one_serves_on(
    model: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(model) as parts:
        before, resident = await classify(parts, TEXTS), parts.lifecycle.models.default
        damage(model)
        with pytest.raises(UsageError, match=DAMAGES[damage]) as refused:
            await parts.lifecycle.reload("tiny-text")
        assert "\n" not in str(refused.value)
        assert str(model) in str(refused.value)
        assert parts.lifecycle.models.default is resident
        assert alike(scores(await classify(parts, TEXTS)), scores(before))
        assert parts.lifecycle.failures == {"tiny-text": 1}
        assert f"{resident} keeps serving" in caplog.text
        metrics = generate_latest(parts.metrics.registry).decode()
        assert 'minwatt_model_reload_failures_total{model="tiny-text"} 1.0' in metrics
        assert 'minwatt_model_info{model="tiny-text",variant="int8",version="1"} 1.0' in metrics

        write_tiny_model(model, version="2", variants=("int8", "fp16"))
        await parts.lifecycle.reload_changed()
        assert (await classify(parts)).model.version == "2", "and the next good one is taken"


async def test_only_what_changed_on_disk_is_reloaded(tmp_path: Path) -> None:
    paths = [write_tiny_model(tmp_path / name, name=name) for name in ("first", "second")]
    async with serving(*paths) as parts:
        await parts.lifecycle.reload_changed()
        assert parts.lifecycle.replacements.total() == 0
        write_tiny_model(paths[1], name="second", version="2")
        await parts.lifecycle.reload_changed()
        assert parts.lifecycle.replacements == {"first": 0, "second": 1}
        assert (await classify(parts, model="second")).model.version == "2"


async def test_a_replaced_model_leaves_memory_when_its_last_request_has_ended(model: Path) -> None:
    async with serving(model) as parts:
        tokenizer = parts.lifecycle.models.default.tokenizer
        engine = weakref.ref(parts.lifecycle.models.default.engines.all[0])
        with parts.lifecycle.models.using(""):
            await parts.lifecycle.load("tiny-text", "fp16")
            await turns()
            gc.collect()
            assert engine() is not None, "a request holds it"
        await happens(lambda: engine() is None)
        assert parts.lifecycle.models.default.tokenizer is tokenizer, "read once for both variants"


async def test_a_refused_model_leaves_memory_while_its_refusal_is_still_in_hand(model: Path) -> None:
    made: weakref.WeakSet[OnnxEncoder] = weakref.WeakSet()

    def encoder(file: Path, heads: Mapping[str, int], options: RuntimeOptions) -> Encoder:
        made.add(one := OnnxEncoder(file, heads, options))
        return one

    async with serving(model, makers=Makers(encoder)) as parts:
        for damage in (no_numbers, other_padding, missing_task):
            write_tiny_model(model, version=damage.__name__)
            damage(model)
            with pytest.raises(UsageError) as refused:
                await parts.lifecycle.reload("tiny-text")
            await happens(lambda: len(made) == 1)  # its thread may be about to leave it
            assert refused.value.__traceback__ is not None


async def test_models_are_unloaded_and_loaded_by_name(tmp_path: Path) -> None:
    paths = [write_tiny_model(tmp_path / name, name=name) for name in ("first", "second")]
    async with serving(*paths) as parts:
        lifecycle = parts.lifecycle
        await lifecycle.unload("second")
        with pytest.raises(Refusal, match="available: first"):
            await classify(parts, model="second")
        with pytest.raises(Refusal) as default:
            await lifecycle.unload("first")
        assert default.value.code is grpc.StatusCode.FAILED_PRECONDITION
        for change in (lifecycle.unload, lifecycle.reload, lifecycle.load):
            with pytest.raises(Refusal) as unknown:
                await change("third")
            assert unknown.value.code is grpc.StatusCode.NOT_FOUND
        await lifecycle.load("second")
        assert (await classify(parts, model="second")).model.name == "second"


async def test_whoever_leaves_while_a_model_is_loaded_leaves_nothing_half_done(model: Path) -> None:
    loading, left = threading.Event(), threading.Event()

    def encoder(file: Path, heads: Mapping[str, int], options: RuntimeOptions) -> Encoder:
        if file.parent.name == "fp16":
            loading.set()
            assert left.wait(WAIT_S)
        return OnnxEncoder(file, heads, options)

    async with serving(model, makers=Makers(encoder)) as parts:
        asked = asyncio.create_task(parts.lifecycle.load("tiny-text", "fp16"))
        assert await asyncio.to_thread(loading.wait, WAIT_S)
        asked.cancel()
        await asyncio.wait({asked})
        assert parts.lifecycle.models.default.variant == "int8"
        left.set()
        await happens(lambda: parts.lifecycle.models.default.variant == "fp16")
        assert (await classify(parts)).model.variant == "fp16"


async def test_a_change_is_read_once_however_often_it_is_announced(model: Path) -> None:
    async with serving(model) as parts:
        write_tiny_model(model, version="2", variants=("int8", "fp16"))
        await asyncio.gather(*(parts.lifecycle.reload_changed() for _ in range(3)))
        assert parts.lifecycle.replacements["tiny-text"] == 1


async def test_whoever_left_is_not_missed_when_the_model_is_refused(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(model) as parts:
        (model / "fp16" / "model.onnx").write_bytes(b"damaged")
        asked = asyncio.create_task(parts.lifecycle.load("tiny-text", "fp16"))
        await asyncio.sleep(0)
        asked.cancel()
        await happens(lambda: parts.lifecycle.failures["tiny-text"] == 1)
        await turns()
        gc.collect()
        assert "never retrieved" not in caplog.text


async def test_changes_happen_one_at_a_time(model: Path) -> None:
    async with serving(model) as parts:
        variants = ("fp16", "int8", "fp16", "int8")
        await asyncio.gather(*(parts.lifecycle.load("tiny-text", variant) for variant in variants))
        assert parts.lifecycle.models.default.variant == "int8"
        assert parts.lifecycle.replacements["tiny-text"] == 4


async def test_known_answers_are_those_of_the_model_that_gave_them(model: Path) -> None:
    """Other weights under the same version are another model; a variant that comes back finds its own."""
    async with serving(model, cache_bytes=2**20) as parts:

        async def asked() -> tuple[list[Scores], int]:
            reply = await classify(parts, TEXTS)
            return scores(reply), reply.usage.cached_texts

        int8, computed = await asked()
        assert computed == 0
        assert await asked() == (int8, len(TEXTS))
        await parts.lifecycle.load("tiny-text", "fp16")
        fp16, cached = await asked()
        assert cached == 0
        assert not alike(fp16, int8)
        await parts.lifecycle.load("tiny-text", "int8")
        assert await asked() == (int8, len(TEXTS))
        write_tiny_model(model, variants=("int8", "fp16"), seed=50)
        await parts.lifecycle.reload("tiny-text")
        other, cached = await asked()
        assert cached == 0
        assert not alike(other, int8)


async def test_the_operating_point_switches_the_variant_behind_the_requests(model: Path) -> None:
    async with serving(model) as parts:
        replica, lifecycle = parts.replica, parts.lifecycle
        told = []
        lifecycle.changed = lambda: told.append((replica.operating_point_version, replica.default.variant))
        assert replica.operate_at(OperatingPoint(version=1, variant="fp16", max_batch_texts=2)) is None
        lifecycle.follow()
        assert (replica.operating_point_version, replica.default.variant) == (0, "int8"), "not yet"
        assert (await classify(parts)).model.variant == "int8"
        await happens(lambda: told == [(1, "fp16")])
        assert (await classify(parts)).model.variant == "fp16"
        assert replica.dispatcher.limits.max_texts == 2
        # The newest point is what counts when several come while a model is loaded.
        for version, variant in ((2, "int8"), (3, "fp16"), (4, "")):
            assert replica.operate_at(OperatingPoint(version=version, variant=variant)) is None
            lifecycle.follow()
        await happens(lambda: replica.operating_point_version == 4)
        assert replica.default.variant == "int8", "as started"


async def test_a_variant_that_is_damaged_is_not_switched_to(model: Path) -> None:
    async with serving(model) as parts:
        (model / "fp16" / "model.onnx").write_bytes(b"damaged")
        parts.replica.operate_at(OperatingPoint(version=1, variant="fp16"))
        parts.lifecycle.follow()
        await happens(lambda: parts.lifecycle.failures["tiny-text"] == 1)
        assert (await classify(parts)).model.variant == "int8"
        assert parts.replica.operating_point_version == 0, "the scaler sees that it is not in force"
        write_tiny_model(model, variants=("int8", "fp16"))
        parts.lifecycle.follow()  # told again, on joining anew
        await happens(lambda: parts.replica.operating_point_version == 1)


async def test_a_point_that_is_told_again_while_a_refusal_ends_is_tried_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(model) as parts:
        lifecycle, replace_model = parts.lifecycle, parts.lifecycle._replace
        (model / "fp16" / "model.onnx").write_bytes(b"damaged")

        async def told_at_the_end(name: str, variant: str | None) -> None:
            try:
                await replace_model(name, variant)
            finally:  # refused, and whoever follows has not heard of it yet
                if not lifecycle.replacements["tiny-text"]:
                    write_tiny_model(model, variants=("int8", "fp16"))
                    lifecycle.follow()

        monkeypatch.setattr(lifecycle, "_replace", told_at_the_end)
        parts.replica.operate_at(OperatingPoint(version=1, variant="fp16"))
        lifecycle.follow()
        await happens(lambda: parts.replica.operating_point_version == 1)
        assert lifecycle.failures["tiny-text"] == 1
        assert parts.replica.default.variant == "fp16"


async def test_a_point_that_comes_before_the_replica_is_ready_waits_for_it(model: Path) -> None:
    parts = assemble(ServeSettings.of_flags(model=model, meter="modelled"))
    parts.replica.operate_at(OperatingPoint(version=1, variant="fp16"))
    parts.lifecycle.follow()
    await turns()
    assert parts.replica.default.variant == "int8"
    await parts.lifecycle.warm()
    running = asyncio.create_task(parts.lifecycle.run())
    await happens(lambda: parts.replica.operating_point_version == 1)
    running.cancel()
    await asyncio.wait({running})
    parts.inference.close()
    parts.power.close()


async def test_a_model_that_would_not_fit_is_refused_with_the_numbers(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(model) as parts:
        usage = Usage(300 * 2**20, 2**40)
        memory = Memory(300 * 2**20, usage=lambda: usage)
        monkeypatch.setattr(parts.lifecycle, "_memory", memory)
        numbers = r"memory-limit = 300Mi: model 'tiny-text' needs about .*Ki beside the 300Mi in use"
        with pytest.raises(UsageError, match=numbers):
            await parts.lifecycle.load("tiny-text", "fp16")
        assert (await classify(parts)).model.variant == "int8"
        assert parts.lifecycle.failures == {"tiny-text": 1}
