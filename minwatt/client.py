"""The clients applications use: typed calls with a deadline, retried within it when a replica goes away.

    with minwatt.Client("127.0.0.1:8500") as client:
        for result in client.classify(["where is my card?"]):
            print(result.label, result.score)

Owns the channels and the sending and waiting, blocking and for asyncio. What to send is `requests`' matter,
when to send it again `attempts`', what comes back `results`' and `failures`'.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from minwatt.attempts import Sender
from minwatt.channels import Connecting, Tls, connecting
from minwatt.failures import request_failed
from minwatt.packing import PACKED_TEXTS, REQUESTS_IN_FLIGHT, Window, in_order, in_order_async
from minwatt.requests import ClassifyOptions, ExtractOptions, classify_request, extract_request
from minwatt.results import Classification, Extraction, Reply, classify_reply, extract_reply
from minwatt.streaming import STREAM_IN_FLIGHT, RequestStream, Wire
from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub

__all__ = ["AsyncClient", "Client"]

DEFAULT_TIMEOUT_S = 10.0


class _Connected(ABC):
    """What both clients are made of."""

    def __init__(
        self,
        target: str,
        *,
        model: str = "",
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tls: Tls | None = None,
        api_key: str | None = None,
        allow_plaintext_key: bool = False,
        connections: int | None = None,
    ) -> None:
        """Connects with the first request.

        target: HOST:PORT; several with commas between; or dns:///NAME:PORT for all addresses of a name.
        model: empty is the server's default.
        timeout_s: each request's deadline, retries included, unless the call says otherwise.
        tls: encryption; None is none.
        api_key: sent as `authorization: Bearer …`; without TLS only to this machine, or where
            `allow_plaintext_key`.
        connections: to each target; None is 4 to a single HOST:PORT, otherwise 1.

        Raises ValueError that names the argument.
        """
        how = connecting(target, connections, tls, api_key, allow_plaintext_key=allow_plaintext_key)
        self._channels = [self._open(address, how) for address in how.targets]
        self._stubs: list[Any] = [TextInferenceStub(channel) for channel in self._channels]
        self._sender = Sender(len(self._channels))
        self._metadata = how.metadata
        self._model = model
        self._timeout_s = timeout_s

    @property
    def retries(self) -> dict[str, int]:
        """How often requests were sent again so far, by the code that caused it, e.g. `UNAVAILABLE`."""
        return self._sender.retries

    @abstractmethod
    def _open(self, target: str, how: Connecting) -> Any:
        """A channel."""

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    def _call(self, connection: int, method: str) -> Callable[..., Any]:
        return partial(getattr(self._stubs[connection], method), metadata=self._metadata)


class Client(_Connected):
    """Blocking; may be shared by threads."""

    def classify(
        self, texts: Sequence[str], *, timeout_s: float | None = None, **options: Unpack[ClassifyOptions]
    ) -> Reply[Classification]:
        """The labels of each text, in order. Raises RequestFailed."""
        request = classify_request(self._model, texts, **options)
        return classify_reply(self._answer("Classify", request, timeout_s))

    def extract_entities(
        self, texts: Sequence[str], *, timeout_s: float | None = None, **options: Unpack[ExtractOptions]
    ) -> Reply[Extraction]:
        """The entities of each text, in order; offsets count code points. Raises RequestFailed."""
        request = extract_request(self._model, texts, **options)
        return extract_reply(self._answer("ExtractEntities", request, timeout_s))

    def classify_many(
        self,
        texts: Iterable[str],
        *,
        texts_per_request: int = PACKED_TEXTS,
        in_flight: int = REQUESTS_IN_FLIGHT,
        timeout_s: float | None = None,
        **options: Unpack[ClassifyOptions],
    ) -> Iterator[Classification]:
        """Each text's labels, in order, as they come; `texts` may be endless, and is read as requests leave.

        At most `in_flight` requests of at most `texts_per_request` texts are under way, each with the
        deadline and, unless `options` say otherwise, of `batch` priority. Raises what the first failed
        request raised; its violations name the text by its place in `texts`.
        """
        ask = partial(self.classify, timeout_s=timeout_s, **_bulk(options))
        return in_order(ask, texts, Window(texts_per_request, in_flight))

    def extract_entities_many(
        self,
        texts: Iterable[str],
        *,
        texts_per_request: int = PACKED_TEXTS,
        in_flight: int = REQUESTS_IN_FLIGHT,
        timeout_s: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> Iterator[Extraction]:
        """As classify_many."""
        ask = partial(self.extract_entities, timeout_s=timeout_s, **_bulk(options))
        return in_order(ask, texts, Window(texts_per_request, in_flight))

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def _open(self, target: str, how: Connecting) -> Any:
        if how.credentials is None:
            return grpc.insecure_channel(target, how.options)
        return grpc.secure_channel(target, how.credentials, how.options)

    def _answer(self, method: str, message: object, timeout_s: float | None) -> Any:
        request = self._sender.request(self._timeout(timeout_s), time.monotonic())
        while True:
            now_s = time.monotonic()
            with self._sender.connection(now_s) as connection:
                try:
                    reply = self._call(connection, method)(message, timeout=request.left_s(now_s))
                except grpc.RpcError as error:
                    failure = request_failed(error)
                    wait_s = request.failed(failure, connection, time.monotonic())
                    if wait_s is None:
                        raise failure from error
                else:
                    self._sender.worked(connection)
                    return reply
            time.sleep(wait_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Connected):
    """As Client, for asyncio; used within one event loop."""

    async def classify(
        self, texts: Sequence[str], *, timeout_s: float | None = None, **options: Unpack[ClassifyOptions]
    ) -> Reply[Classification]:
        """As Client.classify."""
        request = classify_request(self._model, texts, **options)
        return classify_reply(await self._answer("Classify", request, timeout_s))

    async def extract_entities(
        self, texts: Sequence[str], *, timeout_s: float | None = None, **options: Unpack[ExtractOptions]
    ) -> Reply[Extraction]:
        """As Client.extract_entities."""
        request = extract_request(self._model, texts, **options)
        return extract_reply(await self._answer("ExtractEntities", request, timeout_s))

    def classify_many(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        texts_per_request: int = PACKED_TEXTS,
        in_flight: int = REQUESTS_IN_FLIGHT,
        timeout_s: float | None = None,
        **options: Unpack[ClassifyOptions],
    ) -> AsyncIterator[Classification]:
        """As Client.classify_many."""
        ask = partial(self.classify, timeout_s=timeout_s, **_bulk(options))
        return in_order_async(ask, texts, Window(texts_per_request, in_flight))

    def extract_entities_many(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        texts_per_request: int = PACKED_TEXTS,
        in_flight: int = REQUESTS_IN_FLIGHT,
        timeout_s: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> AsyncIterator[Extraction]:
        """As Client.classify_many."""
        ask = partial(self.extract_entities, timeout_s=timeout_s, **_bulk(options))
        return in_order_async(ask, texts, Window(texts_per_request, in_flight))

    def classify_stream(
        self,
        *,
        in_flight: int = STREAM_IN_FLIGHT,
        timeout_s: float | None = None,
        **options: Unpack[ClassifyOptions],
    ) -> RequestStream[Classification]:
        """Many requests on one stream, opened anew when its replica goes; at most `in_flight` unanswered.

        async with client.classify_stream() as stream:
            answers = [await stream.send([text]) for text in texts]
            replies = [await answer for answer in answers]
        """

        def item(id_: str, texts: Sequence[str], left_s: float) -> pb.ClassifyStreamRequest:
            request = classify_request(self._model, texts, **options)
            return pb.ClassifyStreamRequest(id=id_, request=request, timeout_seconds=left_s)

        wire = Wire(lambda connection: self._call(connection, "ClassifyStream")(), item, classify_reply)
        return RequestStream(wire, self._sender, in_flight, self._timeout(timeout_s))

    def extract_entities_stream(
        self,
        *,
        in_flight: int = STREAM_IN_FLIGHT,
        timeout_s: float | None = None,
        **options: Unpack[ExtractOptions],
    ) -> RequestStream[Extraction]:
        """As classify_stream."""

        def item(id_: str, texts: Sequence[str], left_s: float) -> pb.ExtractEntitiesStreamRequest:
            request = extract_request(self._model, texts, **options)
            return pb.ExtractEntitiesStreamRequest(id=id_, request=request, timeout_seconds=left_s)

        wire = Wire(lambda connection: self._call(connection, "ExtractEntitiesStream")(), item, extract_reply)
        return RequestStream(wire, self._sender, in_flight, self._timeout(timeout_s))

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def _open(self, target: str, how: Connecting) -> Any:
        if how.credentials is None:
            return grpc.aio.insecure_channel(target, how.options)
        return grpc.aio.secure_channel(target, how.credentials, how.options)

    async def _answer(self, method: str, message: object, timeout_s: float | None) -> Any:
        request = self._sender.request(self._timeout(timeout_s), time.monotonic())
        while True:
            now_s = time.monotonic()
            with self._sender.connection(now_s) as connection:
                try:
                    reply = await self._call(connection, method)(message, timeout=request.left_s(now_s))
                except grpc.aio.AioRpcError as error:
                    failure = request_failed(error)
                    wait_s = request.failed(failure, connection, time.monotonic())
                    if wait_s is None:
                        raise failure from error
                else:
                    self._sender.worked(connection)
                    return reply
            await asyncio.sleep(wait_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _bulk(options: Any) -> Any:
    """Options of requests that nobody waits for one by one."""
    return {"priority": "batch", **options}
