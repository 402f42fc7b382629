"""Replicas of one process, or with front-end processes (`pytest.mark.both_modes`).

A module's own fixtures that start a replica for the module take `front_ends`, so that each mode has its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.replica_process import ReplicaProcess


@pytest.fixture(scope="module", autouse=True)
def front_ends(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many each replica has that a test starts."""
    count: int = getattr(request, "param", 0)
    ReplicaProcess.front_ends = count
    yield count
    ReplicaProcess.front_ends = 0
