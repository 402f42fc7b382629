"""What the client asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import minwatt
from minwatt.v1 import inference_pb2 as pb


class RememberingStub:
    def __init__(self) -> None:
        self.asked: list[pb.ClassifyRequest | pb.ExtractEntitiesRequest] = []

    def Classify(self, request: pb.ClassifyRequest, timeout: float) -> pb.ClassifyResponse:  # noqa: N802 - the RPC's name
        self.asked.append(request)
        return pb.ClassifyResponse()

    def ExtractEntities(  # noqa: N802
        self, request: pb.ExtractEntitiesRequest, timeout: float
    ) -> pb.ExtractEntitiesResponse:
        self.asked.append(request)
        return pb.ExtractEntitiesResponse()


@pytest.fixture
def stub() -> RememberingStub:
    return RememberingStub()


@pytest.fixture
def client(stub: RememberingStub) -> Iterator[minwatt.Client]:
    with minwatt.Client("127.0.0.1:1") as client:
        client._stub = stub
        yield client


def test_requests_are_interactive_unless_they_say_batch(
    client: minwatt.Client, stub: RememberingStub
) -> None:
    client.classify(["a"])
    client.classify(["a"], priority="batch")
    client.extract_entities(["a"], priority="batch")
    asked = [request.options.priority for request in stub.asked]
    assert asked == [pb.PRIORITY_INTERACTIVE, pb.PRIORITY_BATCH, pb.PRIORITY_BATCH]


def test_a_priority_there_is_not_is_named(client: minwatt.Client, stub: RememberingStub) -> None:
    wrong: Any = "urgent"
    with pytest.raises(ValueError, match="priority = 'urgent': allowed: interactive, batch"):
        client.classify(["a"], priority=wrong)
    assert stub.asked == []
