"""Fixtures every folder may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.tiny_model import write_tiny_model

# No outcome may depend on how busy the machine is, nor on luck: `make test` draws the same examples each
# time, `make explore` new ones.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that serves in milliseconds."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-text")
