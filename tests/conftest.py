"""Fixtures every folder may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.tiny_model import write_tiny_model

if TYPE_CHECKING:
    from tests.kube_api.stand_in import KubeApi

# No outcome may depend on how busy the machine is, nor on luck: `make test` draws the same examples each
# time, `make explore` new ones.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeatable")


MODES = {"one-process": 0, "front-ends": 2}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that says `pytestmark = pytest.mark.both_modes` runs with replicas of one process, and again
    with front-end processes; its folder's fixture `front_ends` sees to it."""
    if metafunc.definition.get_closest_marker("both_modes") is not None:
        metafunc.parametrize(
            "front_ends", list(MODES.values()), ids=list(MODES), indirect=True, scope="module"
        )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that serves in milliseconds."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-text")


@pytest.fixture
def kube_api(tmp_path: Path) -> Iterator[KubeApi]:
    """A Kubernetes API server with a cluster behind it, on the machine's time."""
    from tests.kube_api.stand_in import KubeApi

    with KubeApi(tmp_path) as api:
        yield api
