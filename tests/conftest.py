"""Fixtures every folder may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.tiny_model import write_tiny_model

# No test's outcome may depend on how busy the machine is.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that serves in milliseconds."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-text")
