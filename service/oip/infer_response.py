"""From a minwatt.v1 response to a ModelInferResponse: one row a text, usage as parameters.

Pure. Called by `infer`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

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
from service.oip.models import ENTITIES, LABELS, SCORES, TRUNCATED, Tensor

_NO_LABEL = Label()  # fills a row of which `min_score` left out labels: an empty name, score 0


def response(asked: Asked, answer: ClassifyResponse | ExtractEntitiesResponse) -> pb.ModelInferResponse:
    """Outputs in the order asked for; contents raw where the request's were."""
    reply = pb.ModelInferResponse(model_name=asked.model.name, model_version=asked.model.version, id=asked.id)
    write = _Writer(reply, asked.raw)
    truncated = [result.truncated for result in answer.results]
    if isinstance(answer, ClassifyResponse):
        width = max(1, asked.request.options.top_k) if isinstance(asked.request, ClassifyRequest) else 1
        cells = list(_cells(answer.results, width))
        for tensor in asked.outputs:
            if tensor.name == LABELS:
                write.texts(tensor, [cell.name.encode() for cell in cells], width)
            elif tensor.name == SCORES:
                write.floats(tensor, [cell.score for cell in cells], width)
            elif tensor.name == TRUNCATED:
                write.flags(tensor, truncated)
    else:
        for tensor in asked.outputs:
            if tensor.name == ENTITIES:
                write.texts(tensor, [_json(found) for found in answer.results], 1)
            elif tensor.name == TRUNCATED:
                write.flags(tensor, truncated)
    _tell(answer.usage, answer.model.variant, reply)
    return reply


class _Writer:
    """Adds outputs to a reply."""

    def __init__(self, reply: pb.ModelInferResponse, raw: bool) -> None:
        self._reply = reply
        self._raw = raw

    def texts(self, tensor: Tensor, elements: list[bytes], width: int) -> None:
        output = self._output(tensor, len(elements) // width, width)
        if self._raw:
            self._reply.raw_output_contents.append(packed(elements))
        else:
            output.contents.bytes_contents.extend(elements)

    def floats(self, tensor: Tensor, elements: list[float], width: int) -> None:
        output = self._output(tensor, len(elements) // width, width)
        if self._raw:
            self._reply.raw_output_contents.append(packed_floats(elements))
        else:
            output.contents.fp32_contents.extend(elements)

    def flags(self, tensor: Tensor, elements: list[bool]) -> None:
        output = self._output(tensor, len(elements), 1)
        if self._raw:
            self._reply.raw_output_contents.append(bytes(elements))
        else:
            output.contents.bool_contents.extend(elements)

    def _output(self, tensor: Tensor, rows: int, width: int) -> pb.ModelInferResponse.InferOutputTensor:
        return self._reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=(rows, width))


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
