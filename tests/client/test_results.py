"""Replies and errors as the client reads them."""

from __future__ import annotations

import grpc
import pytest

import minwatt
from minwatt.failures import item_failed, request_failed
from minwatt.results import classify_reply, extract_reply
from minwatt.v1 import inference_pb2 as pb
from service.statuses import (
    Refusal,
    Violation,
    deadline_exceeded,
    internal,
    invalid,
    queue_full,
    too_large,
    unavailable,
    unknown_model,
)


class StubError(grpc.RpcError):
    """What a stub raises for a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal

    def code(self) -> grpc.StatusCode:
        return self._refusal.code

    def details(self) -> str:
        return self._refusal.message

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._refusal.trailing_metadata()


def test_classifications() -> None:
    labels = [pb.Label(name="balance", score=0.75), pb.Label(name="cancel", score=0.25)]
    usage = pb.Usage(tokens=9, queue_seconds=0.5, compute_seconds=0.25, batch_size=2, energy_source="unknown")
    message = pb.ClassifyResponse(
        results=[pb.Classification(labels=labels), pb.Classification(truncated=True)],
        usage=usage,
        model=pb.ModelIdentity(name="m", version="1", variant="int8"),
    )
    reply = classify_reply(message)
    assert [(result.label, result.score) for result in reply] == [("balance", 0.75), (None, None)]
    assert reply[0].labels[1] == minwatt.Label("cancel", 0.25)
    assert [result.truncated for result in reply] == [False, True]
    assert reply.usage == minwatt.Usage(9, 0.5, 0.25, 2, None, "unknown")
    assert reply.model == minwatt.Model("m", "1", "int8")


def test_no_joules_are_not_zero_joules() -> None:
    assert classify_reply(pb.ClassifyResponse()).usage.energy_j is None
    assert classify_reply(pb.ClassifyResponse(usage=pb.Usage(energy_joules=0))).usage.energy_j == 0


def test_extractions() -> None:
    entity = pb.Entity(label="LOC", score=0.5, text="東京", start=2, end=4)
    reply = extract_reply(
        pb.ExtractEntitiesResponse(results=[pb.EntityList(entities=[entity]), pb.EntityList()])
    )
    assert len(reply) == 2
    assert reply[0].entities == (minwatt.Entity("LOC", 0.5, "東京", 2, 4),)
    assert reply[1].entities == ()


@pytest.mark.parametrize(
    ("refusal", "kind", "code", "violations", "retry_after_s"),
    [
        (
            invalid([Violation("texts[1]", "is empty")]),
            minwatt.InvalidRequest,
            "INVALID_ARGUMENT",
            ["texts[1]"],
            None,
        ),
        (unknown_model("x", ["m"]), minwatt.NotServed, "NOT_FOUND", [], None),
        (queue_full("full", 0.25), minwatt.Overloaded, "RESOURCE_EXHAUSTED", [], 0.25),
        (too_large(10, 5), minwatt.InvalidRequest, "RESOURCE_EXHAUSTED", ["(message)"], None),
        (unavailable("draining", "draining", 0.03), minwatt.Unavailable, "UNAVAILABLE", [], 0.03),
        (deadline_exceeded("too late"), minwatt.DeadlineExceeded, "DEADLINE_EXCEEDED", [], None),
        (internal("broken"), minwatt.RequestFailed, "INTERNAL", [], None),
    ],
)
def test_errors_keep_their_details(
    refusal: Refusal, kind: type, code: str, violations: list[str], retry_after_s: float | None
) -> None:
    status = refusal.status()
    item = pb.StreamError(code=status.code, message=status.message, status_details=status.SerializeToString())
    for failed in (request_failed(StubError(refusal)), item_failed(item)):
        assert type(failed) is kind
        assert (failed.code, failed.message, failed.answered) == (code, refusal.message, True)
        assert [violation.field for violation in failed.violations] == violations
        assert failed.retry_after_s == retry_after_s


def test_an_error_of_the_channel_has_no_details() -> None:
    class PlainError(StubError):
        def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
            return ()

    failed = request_failed(PlainError(unavailable("draining", "socket closed", 0.0)))
    assert (str(failed), failed.retry_after_s) == ("UNAVAILABLE: socket closed", None)
    assert not failed.answered
    assert item_failed(pb.StreamError(code=9999, message="new")).code == "UNKNOWN"


def test_one_string_is_not_a_list_of_texts() -> None:
    with minwatt.Client("127.0.0.1:1") as client, pytest.raises(TypeError, match="a list of strings"):
        client.classify("where is my card?")
