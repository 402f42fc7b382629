"""The protocol's messages, in a descriptor pool of their own.

protoc's own Python module would register them in the process-wide pool, where Triton's client registers
messages of the same names: a process could then import only one of the two. Reads `open_inference.binpb`;
`make proto` writes it, and the types beside it, from proto/inference/.
"""

from __future__ import annotations

from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

(_file,) = FileDescriptorSet.FromString((files(__package__) / "open_inference.binpb").read_bytes()).file
_pool = DescriptorPool()
DESCRIPTOR = _pool.AddSerializedFile(_file.SerializeToString())

for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = GetMessageClass(_message)
for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = EnumTypeWrapper(_enum)
    globals().update({value.name: value.number for value in _enum.values})
