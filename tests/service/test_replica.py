"""Operating points: followed, or refused with a reason and nothing moved."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.fleet_pb2 import OperatingPoint
from minwatt.v1.model_dir import ModelDirectory
from service.dispatch import Clocks, Dispatcher
from service.lifecycle.models import Models
from service.queue import MOST_PADDED_TOKENS, MOST_TEXTS, BatchLimits
from service.replica import Identity, Replica
from service.service_time import ServiceTimeEstimate
from tests.tiny_model import write_tiny_model

WHO = Identity("one", "m", "1", "int8", "h", 1)
LIMITS = BatchLimits(max_texts=16, max_padded_tokens=2048, max_delay_s=0.005)


@dataclass(eq=False)
class Model:
    """Resident, as the replica sees it; on disk it has two variants."""

    name: str
    directory: ModelDirectory
    variant: str = "int8"
    dispatcher: Dispatcher = field(default_factory=lambda: Dispatcher(LIMITS, ServiceTimeEstimate(), 0.05))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    path = write_tiny_model(tmp_path_factory.mktemp("two") / "tiny-text", variants=("int8", "fp16"))
    return ModelDirectory.open(path)


@pytest.fixture
def models(directory: ModelDirectory) -> Models[Model]:
    models = Models(Model("m", directory), lambda model: None)
    models.put(Model("other", directory))
    return models


@pytest.fixture
def replica(models: Models[Model]) -> Replica:
    replica = Replica(WHO, LIMITS, 0.05)
    replica.serve(models)
    return replica


def test_zero_bounds_stay_and_a_zero_delay_is_meant(replica: Replica, models: Models[Model]) -> None:
    assert replica.operate_at(OperatingPoint(version=3, max_batch_texts=4)) is None
    for model in models.by_name.values():
        assert model.dispatcher.limits == BatchLimits(4, 2048, 0.0)
        assert model.dispatcher.slo_s == 0.05
    assert replica.operating_point_version == 3


def test_an_older_point_moves_nothing(replica: Replica) -> None:
    assert replica.operate_at(OperatingPoint(version=7, max_batch_texts=4)) is None
    assert replica.operate_at(OperatingPoint(version=6, max_batch_texts=8)) is not None
    assert (replica.dispatcher.limits.max_texts, replica.operating_point_version) == (4, 7)
    assert replica.operate_at(OperatingPoint(version=7, max_batch_texts=4)) is None, "told again on joining"


def test_a_variant_is_in_force_once_it_is_there(
    replica: Replica, models: Models[Model], directory: ModelDirectory
) -> None:
    assert replica.operate_at(OperatingPoint(version=1, max_batch_texts=8)) is None
    assert replica.operate_at(OperatingPoint(version=2, variant="fp16", max_batch_texts=4)) is None
    assert replica.wanted_variant == "fp16"
    assert replica.dispatcher.limits.max_texts == 4, "its bounds are followed at once"
    assert replica.operating_point_version == 1, "not all of it is in force"
    models.put(Model("m", directory, "fp16"))
    replica.settle()
    assert replica.operating_point_version == 2
    assert replica.operate_at(OperatingPoint(version=3)) is None
    assert (replica.wanted_variant, replica.operating_point_version) == ("int8", 2), "empty: as started"


def test_a_model_that_comes_later_goes_by_the_point_in_force(replica: Replica) -> None:
    replica.operate_at(
        OperatingPoint(version=1, max_batch_texts=2, slo_latency_seconds=0.5, sm_clock_mhz=900)
    )
    late = Dispatcher(LIMITS, ServiceTimeEstimate(), 0.05)
    replica.apply_to(late)
    assert (late.limits.max_texts, late.slo_s, late.clocks) == (2, 0.5, Clocks(900, 0))


def test_the_point_says_above_which_backlog_slack_is_short(replica: Replica, models: Models[Model]) -> None:
    def raised(model: Model, backlog_s: float) -> bool:
        model.dispatcher.feel(0.0, backlog_s)
        return model.dispatcher.raised

    assert replica.operate_at(OperatingPoint(version=1, reflex_backlog_seconds=0.03)) is None
    assert not raised(models.default, 0.029)
    assert raised(models.default, 0.031)
    assert replica.operate_at(OperatingPoint(version=2)) is None, "the reflex' own rule again"
    assert raised(models.by_name["other"], 0.021)


def test_the_time_of_the_reflex_never_goes_back(
    replica: Replica, models: Models[Model], directory: ModelDirectory
) -> None:
    models.default.dispatcher.reflex_s_total = 2.0
    models.by_name["other"].dispatcher.reflex_s_total = 1.0
    replica.retired(models.default)
    models.put(Model("m", directory))
    assert replica.reflex_s_total == 3.0


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (OperatingPoint(max_delay_seconds=-1), "delay, SLO and reflex' backlog = (-1.0, 0.0, 0.0)"),
        (OperatingPoint(max_delay_seconds=math.nan), "delay, SLO and reflex' backlog"),
        (OperatingPoint(slo_latency_seconds=math.inf), "delay, SLO and reflex' backlog"),
        (OperatingPoint(reflex_backlog_seconds=math.nan), "delay, SLO and reflex' backlog"),
        (OperatingPoint(reflex_backlog_seconds=-0.01), "delay, SLO and reflex' backlog"),
        (OperatingPoint(variant="fp4"), "variant 'fp4': this replica has int8, fp16"),
        (OperatingPoint(variant="fp32"), "variant 'fp32': this replica has int8, fp16"),  # not on disk
        (OperatingPoint(max_batch_texts=2**32 - 1), "allowed: 4096, 1000000"),
        (OperatingPoint(max_batch_tokens=2**32 - 1), "allowed: 4096, 1000000"),
        (OperatingPoint(sm_clock_mhz=2**32 - 1), "clocks of 4294967295 and 0 MHz: allowed: 100000"),
        (OperatingPoint(reflex_sm_clock_mhz=2**32 - 1), "clocks of 0 and 4294967295 MHz"),
    ],
)
def test_nonsense_moves_nothing(replica: Replica, point: OperatingPoint, reason: str) -> None:
    point.version = 9
    problem = replica.operate_at(point)
    assert problem is not None
    assert problem.startswith("operating point 9: ")
    assert reason in problem
    kept = replica.dispatcher
    assert (kept.limits, kept.slo_s, replica.operating_point_version) == (LIMITS, 0.05, 0)
    assert replica.wanted_variant == "int8"


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.floats(), st.floats())
def test_limits_are_always_usable(
    directory: ModelDirectory, texts: int, tokens: int, delay_s: float, slo_s: float
) -> None:
    moved = Replica(WHO, LIMITS, 0.05)
    moved.serve(Models(Model("m", directory), lambda model: None))
    moved.operate_at(
        OperatingPoint(
            max_batch_texts=texts,
            max_batch_tokens=tokens,
            max_delay_seconds=delay_s,
            slo_latency_seconds=slo_s,
        )
    )
    limits = moved.dispatcher.limits
    assert 0 < limits.max_texts <= MOST_TEXTS, asdict(limits)
    assert 0 < limits.max_padded_tokens <= MOST_PADDED_TOKENS
    assert 0 <= limits.max_delay_s < math.inf
    assert 0 < moved.dispatcher.slo_s < math.inf
