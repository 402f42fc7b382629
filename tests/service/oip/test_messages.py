"""The messages are those of Triton's own stubs, field by field; and both stand in one process."""

from __future__ import annotations

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from service.oip import open_inference_pb2 as pb

THEIRS = service_pb2.DESCRIPTOR.pool


def messages(of: Any) -> list[Any]:
    """A file's or a message's own and nested messages."""
    nested = of.message_types_by_name if hasattr(of, "message_types_by_name") else of.nested_types_by_name
    return [found for message in nested.values() for found in (message, *messages(message))]


def wire(field: Any) -> tuple[object, ...]:
    """All that a field's bytes and its JSON depend on."""
    of = field.message_type or field.enum_type
    return (
        field.number,
        field.type,
        field.is_repeated,
        field.json_name,
        field.has_presence,
        of and of.full_name,
        field.containing_oneof and field.containing_oneof.name,
    )


@pytest.mark.parametrize("ours", messages(pb.DESCRIPTOR), ids=lambda message: message.full_name)
def test_each_field_is_triton_s(ours: Any) -> None:
    theirs = THEIRS.FindMessageTypeByName(ours.full_name)
    for field in ours.fields:
        assert wire(field) == wire(theirs.fields_by_name[field.name]), field.full_name


@pytest.mark.parametrize("name", ["ModelInferRequest", "ModelInferResponse", "InferParameter"])
def test_what_is_read_is_whole(name: str) -> None:
    """A field that a client may set and the server did not know would be ignored silently."""
    ours, theirs = (file.message_types_by_name[name] for file in (pb.DESCRIPTOR, service_pb2.DESCRIPTOR))
    assert ours.fields_by_name.keys() == theirs.fields_by_name.keys()


def test_each_method_is_triton_s() -> None:
    ours = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert ours.full_name == theirs.full_name
    for method in ours.methods:
        same = theirs.methods_by_name[method.name]
        assert method.input_type.full_name == same.input_type.full_name
        assert method.output_type.full_name == same.output_type.full_name
        assert (method.client_streaming, method.server_streaming) == (
            same.client_streaming,
            same.server_streaming,
        )


def test_each_enum_value_is_triton_s() -> None:
    assert pb.DataType.items() == model_config_pb2.DataType.items()
    kinds = model_config_pb2.ModelInstanceGroup.Kind.items()
    assert pb.ModelInstanceGroup.Kind.items() == kinds
