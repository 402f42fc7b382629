"""Fixtures every folder may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that serves in milliseconds."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-text")
