"""From a minwatt.v1 response to a ModelInferResponse: one row a text, usage as parameters.

Pure. Called by `infer`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache

from minwatt.v1.inference_pb2 import (
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    EntityList,
    ExtractEntitiesResponse,
    Label,
    Usage,
)
from service.oip import open_inference_pb2 as pb
from service.oip.bytes_tensor import packed, packed_floats
from service.oip.infer_request import Asked
from service.oip.models import ENTITIES, LABELS, SCORES, TRUNCATED, Model

_NO_LABEL = Label()  # fills a row of which `min_score` left out labels: an empty name, score 0


def response(asked: Asked, answer: ClassifyResponse | ExtractEntitiesResponse) -> pb.ModelInferResponse:
    """Outputs in the order asked for; contents raw where the request's were."""
    cells: list[Label] = []
    found: list[bytes] = []
    width = 1
    if isinstance(answer, ClassifyResponse):
        width = max(1, asked.request.options.top_k) if isinstance(asked.request, ClassifyRequest) else 1
        cells = list(_cells(answer.results, width))
    else:
        found = [_json(entities) for entities in answer.results]

    reply = pb.ModelInferResponse.FromString(_head(asked.model, asked.outputs, len(answer.results), width))
    reply.id = asked.id
    contents = _Contents(reply, asked.raw)
    for name in asked.outputs:
        if name == LABELS:
            contents.add_texts([cell.name.encode() for cell in cells])
        elif name == SCORES:
            contents.add_floats([cell.score for cell in cells])
        elif name == ENTITIES:
            contents.add_texts(found)
        elif name == TRUNCATED:
            contents.add_flags([result.truncated for result in answer.results])
    _tell(answer.usage, answer.model.variant, reply)
    return reply


@lru_cache(maxsize=1024)
def _head(model: Model, outputs: tuple[str, ...], rows: int, width: int) -> bytes:
    """What replies of one shape have in common, serialized: building it takes longer than parsing."""
    reply = pb.ModelInferResponse(model_name=model.name, model_version=model.version)
    for tensor in map(model.outputs.__getitem__, outputs):
        columns = width if tensor.width < 0 else tensor.width
        reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=(rows, columns))
    return reply.SerializeToString()


class _Contents:
    """Fills a reply's outputs one after the other."""

    def __init__(self, reply: pb.ModelInferResponse, raw: bool) -> None:
        self._raw = reply.raw_output_contents if raw else None
        self._outputs = iter(reply.outputs)

    def add_texts(self, elements: list[bytes]) -> None:
        if self._raw is None:
            next(self._outputs).contents.bytes_contents.extend(elements)
        else:
            self._raw.append(packed(elements))

    def add_floats(self, elements: list[float]) -> None:
        if self._raw is None:
            next(self._outputs).contents.fp32_contents.extend(elements)
        else:
            self._raw.append(packed_floats(elements))

    def add_flags(self, elements: list[bool]) -> None:
        if self._raw is None:
            next(self._outputs).contents.bool_contents.extend(elements)
        else:
            self._raw.append(bytes(elements))


def _cells(results: Sequence[Classification], width: int) -> Iterator[Label]:
    for result in results:
        labels = result.labels
        yield from labels
        for _ in range(width - len(labels)):
            yield _NO_LABEL


def _json(found: EntityList) -> bytes:
    entities = [
        {"label": e.label, "score": e.score, "text": e.text, "start": e.start, "end": e.end}
        for e in found.entities
    ]
    return json.dumps(entities, ensure_ascii=False).encode()


def _tell(usage: Usage, variant: str, reply: pb.ModelInferResponse) -> None:
    """What the request cost, in the names of minwatt.v1.Usage; unknown joules are left out."""
    parameters = reply.parameters
    parameters["tokens"].int64_param = usage.tokens
    parameters["queue_seconds"].double_param = usage.queue_seconds
    parameters["compute_seconds"].double_param = usage.compute_seconds
    parameters["batch_size"].int64_param = usage.batch_size
    if usage.HasField("energy_joules"):
        parameters["energy_joules"].double_param = usage.energy_joules
    parameters["energy_source"].string_param = usage.energy_source
    parameters["variant"].string_param = variant
