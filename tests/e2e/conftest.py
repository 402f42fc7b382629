"""Tests that run against a replica of one process and against one with front-end processes.

A module asks for both with `pytestmark = pytest.mark.both_modes`; fixtures of its own that start a replica
for the module take `front_ends`, so that each mode has its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.replica_process import ReplicaProcess

MODES = {"one-process": 0, "front-ends": 2}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("both_modes") is not None:
        metafunc.parametrize(
            "front_ends", list(MODES.values()), ids=list(MODES), indirect=True, scope="module"
        )


@pytest.fixture(scope="module", autouse=True)
def front_ends(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many each replica has that a test starts."""
    count: int = getattr(request, "param", 0)
    ReplicaProcess.front_ends = count
    yield count
    ReplicaProcess.front_ends = 0
