"""The two reply messages, filled: results, what they cost, and which model gave them.

Called by `inference`, and by a front end for answers that the engine process gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from minwatt.v1.inference_pb2 import (
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    EntityList,
    ExtractEntitiesRequest,
    ExtractEntitiesResponse,
    ModelIdentity,
    Usage,
)
from service.request import Cost, TextResult

AnyRequest = ClassifyRequest | ExtractEntitiesRequest
AnyResponse = ClassifyResponse | ExtractEntitiesResponse


def reply(
    message: AnyRequest,
    results: Sequence[TextResult | None],
    cost: Cost,
    energy_source: str,
    identity: ModelIdentity,
) -> AnyResponse:
    """`results` are of the message's kind, one a text. Joules of an unknown source are left out.

    Filled in place: messages that are given to a constructor are made, packed and unpacked again.
    """
    filled: AnyResponse
    if isinstance(message, ClassifyRequest):
        filled = ClassifyResponse()
        filled.results.extend(cast(Sequence[Classification], results))
    else:
        filled = ExtractEntitiesResponse()
        filled.results.extend(cast(Sequence[EntityList], results))
    _tell(cost, energy_source, filled.usage)
    filled.model.CopyFrom(identity)
    return filled


def _tell(cost: Cost, energy_source: str, usage: Usage) -> None:
    usage.tokens = cost.tokens
    usage.queue_seconds = cost.queue_s
    usage.compute_seconds = cost.compute_s
    usage.batch_size = cost.batch_texts
    usage.energy_source = "unknown" if cost.energy_j is None else energy_source
    if cost.energy_j is not None and energy_source != "unknown":
        usage.energy_joules = cost.energy_j
    usage.cached_texts = cost.cached_texts
