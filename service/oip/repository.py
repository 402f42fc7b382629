"""RepositoryModelLoad and RepositoryModelUnload: an admin changes which models are resident.

A model is loaded and unloaded as a whole, under its own name or that of one of its tasks. What a load does is
`service.lifecycle`'s matter; mounted by `service`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from minwatt.v1.errors import UsageError
from service.calls import Call, Unary
from service.oip import open_inference_pb2 as pb
from service.statuses import Refusal, Violation, invalid
from service.wire import Reader, Unreadable

Q = TypeVar("Q", bound=Message)


class ModelChanges(Protocol):
    """Loads and unloads. Raises Refusal (NOT_FOUND), UsageError where a model is refused."""

    @property
    def names(self) -> Sequence[str]:
        """Of the models that can be loaded."""

    @property
    def unloaded(self) -> Sequence[str]:
        """Of those that are not resident now."""

    async def load(self, name: str, variant: str | None = None) -> None: ...

    async def unload(self, name: str) -> None: ...


class Repository:
    """`admits` raises Refusal for whoever is no admin."""

    def __init__(self, changes: ModelChanges, admits: Callable[[Call], object]) -> None:
        self._changes = changes
        self._admits = admits

    @property
    def unloaded(self) -> Sequence[str]:
        return self._changes.unloaded

    def method(self, request: type[Q], answer: Callable[[Q], Awaitable[Message]], max_bytes: int) -> Unary:
        read = Reader(request, max_bytes)

        async def unary(data: bytes, call: Call) -> bytes:
            self._admits(call)
            message = read(data)
            if isinstance(message, Unreadable):
                raise message.refusal
            return (await answer(message)).SerializeToString()

        return unary

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """`variant` is the one parameter: without it a model keeps the one that it has."""
        check_repository(request.repository_name)
        _check_parameters(request.parameters, {"variant": "string_param"})
        variant = request.parameters["variant"].string_param if "variant" in request.parameters else None
        try:
            await self._changes.load(self._name(request.model_name), variant)
        except UsageError as error:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "invalid", str(error)) from None
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        check_repository(request.repository_name)
        _check_parameters(request.parameters, {"unload_dependents": "bool_param"})
        await self._changes.unload(self._name(request.model_name))
        return pb.RepositoryModelUnloadResponse()

    def _name(self, asked: str) -> str:
        """The model's own name for that of one of its tasks."""
        if not asked:
            raise invalid([Violation("model_name", "is empty")])
        own = asked.rpartition(".")[0]
        return own if asked not in self._changes.names and own in self._changes.names else asked


def check_repository(name: str) -> None:
    """Raises Refusal for another repository than the one there is."""
    if name:
        message = "repository_name: there is one repository, without a name; allowed: empty"
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "invalid", message)


def _check_parameters(given: Mapping[str, pb.ModelRepositoryParameter], allowed: Mapping[str, str]) -> None:
    violations = [
        Violation(
            f"parameters[{name!r}]", f"allowed: {', '.join(f'{n} ({kind})' for n, kind in allowed.items())}"
        )
        for name, value in given.items()
        if value.WhichOneof("parameter_choice") != allowed.get(name, "")
    ]
    if violations:
        raise invalid(violations)
