"""How many parameters a graph holds, read from its file without the `onnx` package.

Owns the few fields of onnx.proto that this takes; protobuf skips the rest. Called by `run`.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from minwatt.v1.errors import UsageError

PACKED = "MatMulNBits"  # several weights a byte: its attributes say how many there are
_PACKAGE = "minwatt.onnx_shapes"
_Field = descriptor_pb2.FieldDescriptorProto
# Message -> (field, its number in onnx.proto, type; a message's name where it is one, repeated).
_FIELDS: dict[str, tuple[tuple[str, int, int, str, bool], ...]] = {
    "Model": (("graph", 7, _Field.TYPE_MESSAGE, "Graph", False),),
    "Graph": (
        ("node", 1, _Field.TYPE_MESSAGE, "Node", True),
        ("initializer", 5, _Field.TYPE_MESSAGE, "Tensor", True),
    ),
    "Tensor": (("dims", 1, _Field.TYPE_INT64, "", True), ("name", 8, _Field.TYPE_STRING, "", False)),
    "Node": (
        ("input", 1, _Field.TYPE_STRING, "", True),
        ("op_type", 4, _Field.TYPE_STRING, "", False),
        ("attribute", 5, _Field.TYPE_MESSAGE, "Attribute", True),
    ),
    "Attribute": (("name", 1, _Field.TYPE_STRING, "", False), ("i", 3, _Field.TYPE_INT64, "", False)),
}


def parameters_of(file: Path) -> int:
    """The numbers that the graph's constants hold; a quantized graph's scales are among them.

    Weights that share bytes (`MatMulNBits`) count one by one. Raises UsageError when the file is no graph.
    """
    try:
        graph = _model_class().FromString(file.read_bytes()).graph
    except (OSError, DecodeError) as error:
        raise UsageError(f"{file}: not an ONNX graph: {error}") from error
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == PACKED:
            attributes = {attribute.name: attribute.i for attribute in node.attribute}
            sizes[node.input[1]] = attributes["K"] * attributes["N"]
    return sum(sizes.values())


@cache
def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="onnx_shapes.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind, of, repeated in fields:
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, type=kind, label=label)
            if of:
                field.type_name = f".{_PACKAGE}.{of}"
            elif repeated and kind == _Field.TYPE_INT64:
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))
