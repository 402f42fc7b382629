"""Bytes to requests without trusting them: what can't be read becomes a value that says why.

gRPC answers INTERNAL when a deserializer raises; here a frame that is too large, malformed or not UTF-8
reaches the handler as `Unreadable`, which answers with a precise status. Called by gRPC for each message,
through `inference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from service.statuses import Refusal, Violation, invalid, too_large

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that could not be parsed, and the refusal it gets."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Reader(Generic[M]):
    """A deserializer for one message type that never raises."""

    message: type[M]
    max_bytes: int

    def __call__(self, data: bytes) -> M | Unreadable:
        if len(data) > self.max_bytes:
            return Unreadable(too_large(len(data), self.max_bytes))
        parse: Callable[[bytes], M] = self.message.FromString
        try:
            return parse(data)
        except DecodeError:
            return Unreadable(invalid(_why(self.message.DESCRIPTOR, data)))


def _why(descriptor: Any, data: bytes) -> Iterator[Violation]:
    """Which strings are not UTF-8; or that the frame is no such message at all."""
    malformed = Violation("(message)", f"the bytes are not a {descriptor.full_name}")
    try:
        raw = _bytes_twin(descriptor.full_name, descriptor.file.serialized_pb).FromString(data)
    except DecodeError:
        yield malformed
        return
    violations = _not_utf8(raw, "")
    yield next(violations, malformed)
    yield from violations


@cache
def _bytes_twin(name: str, file: bytes) -> type[Any]:
    """The message with `bytes` for each `string`: same on the wire, but it parses what is not UTF-8."""
    twin = FileDescriptorProto.FromString(file)
    for message in twin.message_type:
        _strings_to_bytes(message)
    pool = DescriptorPool()
    pool.AddSerializedFile(twin.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(name))


def _strings_to_bytes(message: DescriptorProto) -> None:
    for field in message.field:
        if field.type == FieldDescriptorProto.TYPE_STRING:
            field.type = FieldDescriptorProto.TYPE_BYTES
    for nested in message.nested_type:
        if not nested.options.map_entry:  # the keys of a map can't be bytes
            _strings_to_bytes(nested)


def _not_utf8(message: Message, prefix: str) -> Iterator[Violation]:
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        for index, item in enumerate(values):
            path = f"{prefix}{field.name}" + (f"[{index}]" if field.is_repeated else "")
            if isinstance(item, Message):
                yield from _not_utf8(item, f"{path}.")
            elif isinstance(item, bytes):
                try:
                    item.decode()
                except UnicodeDecodeError as error:
                    yield Violation(path, f"not valid UTF-8 at byte {error.start}")
