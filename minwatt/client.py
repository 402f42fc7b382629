"""The client applications use: typed calls with a deadline, retried within it when a replica goes away.

    with minwatt.Client("127.0.0.1:8500") as client:
        for result in client.classify(["where is my card?"]):
            print(result.label, result.score)

Owns channels, deadlines and retries; `results` and `failures` are what comes back. A client holds one
connection, and requests that it carries when its replica stops are sent again to another one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Self

import grpc

from minwatt.failures import request_failed
from minwatt.results import Classification, Extraction, Reply, classify_reply, extract_reply
from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub

DEFAULT_TIMEOUT_S = 10.0

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": pb.DESCRIPTOR.services_by_name["TextInference"].full_name}],
            "waitForReady": True,  # while no replica listens, a request waits for one, within its deadline
            "retryPolicy": {
                "maxAttempts": 5,  # gRPC's own limit
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                # CANCELLED: what gRPC's server says of calls that arrive in the instant it shuts down. A
                # call that the application itself cancels is never retried.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.use_local_subchannel_pool", 1),  # each client its own connection: they spread over replicas
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also the time a connection attempt may take
    ("grpc.max_reconnect_backoff_ms", 1000),
]


Priority = Literal["interactive", "batch"]
_PRIORITIES = {"interactive": pb.PRIORITY_INTERACTIVE, "batch": pb.PRIORITY_BATCH}


def _classify_request(
    model: str, texts: Sequence[str], top_k: int, min_score: float, truncate: bool, priority: Priority
) -> pb.ClassifyRequest:
    options = pb.ClassifyOptions(
        top_k=top_k, min_score=min_score, long_text=_long_text(truncate), priority=_priority(priority)
    )
    return pb.ClassifyRequest(model=model, texts=_listed(texts), options=options)


def _extract_request(
    model: str, texts: Sequence[str], min_score: float, truncate: bool, priority: Priority
) -> pb.ExtractEntitiesRequest:
    options = pb.ExtractEntitiesOptions(
        min_score=min_score, long_text=_long_text(truncate), priority=_priority(priority)
    )
    return pb.ExtractEntitiesRequest(model=model, texts=_listed(texts), options=options)


def _long_text(truncate: bool) -> pb.LongText.ValueType:
    return pb.LONG_TEXT_TRUNCATE if truncate else pb.LONG_TEXT_REFUSE


def _priority(priority: str) -> pb.Priority.ValueType:
    if priority not in _PRIORITIES:
        raise ValueError(f"priority = {priority!r}: allowed: {', '.join(_PRIORITIES)}")
    return _PRIORITIES[priority]


def _listed(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):  # a string is a sequence of its characters, and never meant so
        raise TypeError("texts: a list of strings is needed, not one string")
    return texts


class Client:
    """Blocking; may be shared by threads. `timeout_s` is each request's deadline, retries included."""

    def __init__(self, target: str, *, model: str = "", timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """`target` is HOST:PORT; `model` empty is the server's default. Connects with the first request."""
        self._channel = grpc.insecure_channel(target, CHANNEL_OPTIONS)
        self._stub: Any = TextInferenceStub(self._channel)
        self._model = model
        self._timeout_s = timeout_s

    def classify(
        self,
        texts: Sequence[str],
        *,
        top_k: int = 1,
        min_score: float = 0.0,
        truncate: bool = False,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
    ) -> Reply[Classification]:
        """The labels of each text, in order. `truncate` reads the first tokens of a text that is too long.

        Requests of the class `batch` wait longer, and are refused first (RESOURCE_EXHAUSTED) when time or
        watts are short.
        Raises RequestFailed.
        """
        request = _classify_request(self._model, texts, top_k, min_score, truncate, priority)
        try:
            return classify_reply(self._stub.Classify(request, timeout=self._timeout(timeout_s)))
        except grpc.RpcError as error:
            raise request_failed(error) from error

    def extract_entities(
        self,
        texts: Sequence[str],
        *,
        min_score: float = 0.0,
        truncate: bool = False,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
    ) -> Reply[Extraction]:
        """The entities of each text, in order; offsets count code points. Raises RequestFailed."""
        request = _extract_request(self._model, texts, min_score, truncate, priority)
        try:
            return extract_reply(self._stub.ExtractEntities(request, timeout=self._timeout(timeout_s)))
        except grpc.RpcError as error:
            raise request_failed(error) from error

    def close(self) -> None:
        self._channel.close()

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """As Client, for asyncio; used within one event loop."""

    def __init__(self, target: str, *, model: str = "", timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """`target` is HOST:PORT; `model` empty is the server's default. Connects with the first request."""
        self._channel = grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
        self._stub: Any = TextInferenceStub(self._channel)
        self._model = model
        self._timeout_s = timeout_s

    async def classify(
        self,
        texts: Sequence[str],
        *,
        top_k: int = 1,
        min_score: float = 0.0,
        truncate: bool = False,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
    ) -> Reply[Classification]:
        """As Client.classify."""
        request = _classify_request(self._model, texts, top_k, min_score, truncate, priority)
        try:
            return classify_reply(await self._stub.Classify(request, timeout=self._timeout(timeout_s)))
        except grpc.RpcError as error:
            raise request_failed(error) from error

    async def extract_entities(
        self,
        texts: Sequence[str],
        *,
        min_score: float = 0.0,
        truncate: bool = False,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
    ) -> Reply[Extraction]:
        """As Client.extract_entities."""
        request = _extract_request(self._model, texts, min_score, truncate, priority)
        try:
            return extract_reply(await self._stub.ExtractEntities(request, timeout=self._timeout(timeout_s)))
        except grpc.RpcError as error:
            raise request_failed(error) from error

    async def close(self) -> None:
        await self._channel.close()

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
