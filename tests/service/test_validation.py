"""Each field's own refusal."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ResourceInfo

from minwatt.v1.inference_pb2 import (
    LONG_TEXT_TRUNCATE,
    PRIORITY_BATCH,
    ClassifyOptions,
    ClassifyRequest,
    ExtractEntitiesOptions,
    ExtractEntitiesRequest,
)
from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from service.statuses import Refusal
from service.validation import Options, check, check_timeout

MAX_TEXTS = 3


@pytest.fixture
def spec(tiny_model: Path) -> ModelSpec:
    return ModelDirectory.open(tiny_model).spec


def refusal_of(request: ClassifyRequest | ExtractEntitiesRequest, spec: ModelSpec) -> Refusal:
    with pytest.raises(Refusal) as raised:
        check(request, spec, MAX_TEXTS)
    return raised.value


def violations(refusal: Refusal) -> dict[str, str]:
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    bad = BadRequest()
    assert refusal.status().details[0].Unpack(bad)
    return {violation.field: violation.description for violation in bad.field_violations}


def test_good_requests(spec: ModelSpec) -> None:
    options = ClassifyOptions(top_k=2, min_score=0.5, long_text=LONG_TEXT_TRUNCATE, priority=PRIORITY_BATCH)
    task, read = check(ClassifyRequest(model="tiny-text", texts=["a"], options=options), spec, MAX_TEXTS)
    assert (task.name, read) == ("intent", Options(2, 0.5, truncate=True, batch=True))
    task, read = check(ExtractEntitiesRequest(texts=["a"]), spec, MAX_TEXTS)
    assert (task.name, read) == ("entity", Options(1, 0.0, truncate=False))


def test_unknown_model_lists_the_models(spec: ModelSpec) -> None:
    refusal = refusal_of(ClassifyRequest(model="gpt", texts=["a"]), spec)
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    info = ResourceInfo()
    assert refusal.status().details[0].Unpack(info)
    assert (info.resource_type, info.resource_name, info.description) == (
        "model",
        "gpt",
        "available: tiny-text",
    )


def test_a_reply_does_not_repeat_a_long_name(spec: ModelSpec) -> None:
    refusal = refusal_of(ClassifyRequest(model="x" * 100_000, texts=["a"]), spec)
    assert len(refusal.status().SerializeToString()) < 1000


def test_a_model_without_the_task(spec: ModelSpec) -> None:
    only_intent = spec.model_copy(update={"tasks": spec.tasks[:1]})
    refusal = refusal_of(ExtractEntitiesRequest(texts=["a"]), only_intent)
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
    assert refusal.message == "model 'tiny-text' has no ner task; it has: intent"


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        (ClassifyRequest(), "texts", "is empty"),
        (ClassifyRequest(texts=["a"] * 4), "texts", "has 4 texts; the limit is 3 a request"),
        (ClassifyRequest(texts=["a", ""]), "texts[1]", "is empty"),
        (ClassifyRequest(texts=[" \n"]), "texts[0]", "is empty"),
        (
            ClassifyRequest(texts=["a"], options=ClassifyOptions(top_k=6)),
            "options.top_k",
            "is 6; allowed: 0 to 5",
        ),
        (
            ClassifyRequest(texts=["a"], options=ClassifyOptions(min_score=1.5)),
            "options.min_score",
            "is 1.5; allowed",
        ),
        (
            ExtractEntitiesRequest(texts=["a"], options=ExtractEntitiesOptions(min_score=float("nan"))),
            "options.min_score",
            "is nan; allowed: 0 to 1",
        ),
        (
            ExtractEntitiesRequest.FromString(b"\x12\x01a\x1a\x02\x10\x09"),
            "options.long_text",
            "is 9; allowed: LONG_TEXT_UNSPECIFIED, LONG_TEXT_REFUSE, LONG_TEXT_TRUNCATE",
        ),
        (
            ExtractEntitiesRequest.FromString(b"\x12\x01a\x1a\x02\x18\x09"),
            "options.priority",
            "is 9; allowed: PRIORITY_UNSPECIFIED, PRIORITY_BATCH, PRIORITY_INTERACTIVE",
        ),
        (
            ClassifyRequest.FromString(b"\x12\x01a\x1a\x02\x78\x01"),
            "options",
            "field number 15 is unknown; allowed: top_k (1), min_score (2), long_text (3)",
        ),
    ],
)
def test_each_violation_names_its_field(
    request_: ClassifyRequest | ExtractEntitiesRequest, field: str, says: str, spec: ModelSpec
) -> None:
    found = violations(refusal_of(request_, spec))
    assert list(found) == [field]
    assert found[field].startswith(says)


def test_all_violations_are_named(spec: ModelSpec) -> None:
    request = ClassifyRequest(texts=["", "a"], options=ClassifyOptions(top_k=9, min_score=-1))
    refusal = refusal_of(request, spec)
    assert list(violations(refusal)) == ["texts[0]", "options.top_k", "options.min_score"]
    assert refusal.message.startswith("texts[0]: is empty")
    assert refusal.message.endswith("(and 2 more)")


@pytest.mark.parametrize("timeout_s", [-1.0, float("nan"), float("inf")])
def test_a_timeout_is_a_positive_number(timeout_s: float) -> None:
    with pytest.raises(Refusal) as raised:
        check_timeout(timeout_s)
    assert list(violations(raised.value)) == ["timeout_seconds"]
