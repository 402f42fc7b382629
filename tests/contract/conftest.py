"""Front ends of one process, or of processes of their own (`pytest.mark.both_modes`).

A module's own fixtures that open one for the module take `front_ends`, so that each mode has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.front_end import FrontEnd, Processes
from tests.contract.front_processes import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="module", autouse=True)
def front_ends(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[int]:
    """How many processes each `FrontEnd` has that a test opens; 0: none of its own."""
    count: int = getattr(request, "param", 0)
    if count:
        FrontEnd.processes = Processes(count, tiny_model, request.getfixturevalue("nursery"))
    yield count
    FrontEnd.processes = None
