"""The methods of `inference.GRPCInferenceService`, as the front end takes them.

Owns liveness, readiness, metadata, configuration, statistics and the index; `infer` answers texts. Made by
`service.server`.
"""

from __future__ import annotations

import importlib.metadata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import Message

from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY, REPLICA_STATE_STARTING
from service.calls import Call, Service, Unary
from service.inference import Inference
from service.oip import open_inference_pb2 as pb
from service.oip.infer import Inferring
from service.oip.models import Catalog, Deployed
from service.oip.repository import Repository, check_repository
from service.oip.statistics import ModelCounts
from service.replica import Replica
from service.wire import Reader, Unreadable

NAME = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
# Triton's names.
EXTENSIONS = ("model_configuration", "model_repository", "parameters", "schedule_policy", "statistics")

Q = TypeVar("Q", bound=Message)


@dataclass(frozen=True, slots=True)
class Served:
    """What the service tells of."""

    replica: Replica
    repository: Repository
    deployed: Deployed
    max_message_bytes: int
    max_stream_in_flight: int
    counts: defaultdict[str, ModelCounts] = field(  # by model
        default_factory=lambda: defaultdict(ModelCounts)
    )


def open_inference(inference: Inference, served: Served) -> Service:
    """The service to mount."""
    methods = _Methods(inference, served)
    limit = served.max_message_bytes
    of_caller = inference.check_caller
    return Service(
        NAME,
        {
            **probes(methods.catalog, lambda: methods.ready, limit),
            "ServerMetadata": _method(pb.ServerMetadataRequest, methods.server_metadata, limit),
            "ModelMetadata": _method(pb.ModelMetadataRequest, methods.model_metadata, limit, of_caller),
            "ModelConfig": _method(pb.ModelConfigRequest, methods.model_config, limit, of_caller),
            "ModelStatistics": _method(pb.ModelStatisticsRequest, methods.model_statistics, limit, of_caller),
            "RepositoryIndex": _method(pb.RepositoryIndexRequest, methods.repository_index, limit, of_caller),
            "RepositoryModelLoad": served.repository.method(
                pb.RepositoryModelLoadRequest, served.repository.load, limit
            ),
            "RepositoryModelUnload": served.repository.method(
                pb.RepositoryModelUnloadRequest, served.repository.unload, limit
            ),
            "ModelInfer": methods.inferring.unary,
        },
        {"ModelStreamInfer": methods.inferring.stream},
    )


def probes(catalog: Catalog, ready: Callable[[], bool], max_bytes: int) -> dict[str, Unary]:
    """Liveness and readiness: of the process that is asked, whatever becomes of others."""

    def server_live(_request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    def server_ready(_request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=ready())

    def model_ready(request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Of a model that is not there: not ready, as Triton has it."""
        there = catalog.find(request.name, request.version) is not None
        return pb.ModelReadyResponse(ready=there and ready())

    return {
        "ServerLive": _method(pb.ServerLiveRequest, server_live, max_bytes),
        "ServerReady": _method(pb.ServerReadyRequest, server_ready, max_bytes),
        "ModelReady": _method(pb.ModelReadyRequest, model_ready, max_bytes),
    }


def _anyone(_call: Call) -> None:
    """Probes show no key: whether the server is there and ready is told to all."""


def _method(
    request: type[Q],
    answer: Callable[[Q], Message],
    max_bytes: int,
    check_caller: Callable[[Call], None] = _anyone,
) -> Unary:
    read = Reader(request, max_bytes)

    async def unary(data: bytes, call: Call) -> bytes:
        check_caller(call)
        message = read(data)
        if isinstance(message, Unreadable):
            raise message.refusal
        return answer(message).SerializeToString()

    return unary


class _Methods:
    """Answers that need no model; Refusal where there is none."""

    def __init__(self, inference: Inference, served: Served) -> None:
        self.catalog = Catalog(served.replica.models)
        self._replica = served.replica
        self._repository = served.repository
        self._deployed = served.deployed
        self._version = importlib.metadata.version("minwatt")
        self.inferring = Inferring(
            inference, self.catalog, served.max_message_bytes, served.max_stream_in_flight, served.counts
        )

    @property
    def ready(self) -> bool:
        return self._replica.state == REPLICA_STATE_READY

    def server_metadata(self, _request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="minwatt", version=self._version, extensions=EXTENSIONS)

    def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        return self.catalog.get(request.name, request.version).metadata()

    def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        model = self.catalog.get(request.name, request.version)
        max_delay_s = self._replica.dispatcher.limits.max_delay_s
        return pb.ModelConfigResponse(config=model.config(self._deployed, max_delay_s))

    def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        if request.name:
            models = [self.catalog.get(request.name, request.version)]
        else:
            models = list(self.catalog.models.values())
        counts = self.inferring.counts
        return pb.ModelStatisticsResponse(
            model_stats=[counts[model.name].told(model.name, model.version) for model in models]
        )

    def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        check_repository(request.repository_name)
        if self.ready:
            state, reason = "READY", ""
        elif self._replica.state == REPLICA_STATE_STARTING:
            state, reason = "LOADING", "the model is being loaded"
        else:
            state, reason = "UNLOADING", "the server is draining"
        models = [] if request.ready and not self.ready else self.catalog.models.values()
        index = pb.RepositoryIndexResponse.ModelIndex
        listed = [index(name=m.name, version=m.version, state=state, reason=reason) for m in models]
        unloaded = [] if request.ready else self._repository.unloaded
        listed += [index(name=name, state="UNAVAILABLE", reason="unloaded") for name in unloaded]
        return pb.RepositoryIndexResponse(models=listed)
