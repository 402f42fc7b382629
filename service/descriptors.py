"""The descriptors of several files in one pool, for reflection. Called by `door`.

The process-wide pool does not hold all that is served: the messages of the Open Inference Protocol have their
own.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool


def one_pool(*files: Any) -> DescriptorPool:
    """The files (FileDescriptor, of whatever pool) and all that they import."""
    pool = DescriptorPool()
    known: set[str] = set()

    def add(file: Any) -> None:
        if file.name not in known:
            known.add(file.name)
            for dependency in file.dependencies:
                add(dependency)
            pool.AddSerializedFile(file.serialized_pb)

    for file in files:
        add(file)
    return pool
