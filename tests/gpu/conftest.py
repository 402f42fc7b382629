"""Everything here needs a card and is skipped without one. `make gpu-check` runs it and gathers figures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minwatt.resources import default_model_dir
from minwatt.v1.model_dir import ModelDirectory
from tests.gpu.card import lack

FIGURES = "MINWATT_GPU_FIGURES"  # a file that takes one JSON object a figure
MODEL = "MINWATT_GPU_MODEL"  # another model directory than the shipped one

Record = Callable[[str, Any], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = lack()
    if missing is None:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture
def record() -> Record:
    """Keeps a figure for the report."""

    def keep(name: str, value: Any) -> None:
        if file := os.environ.get(FIGURES):
            with Path(file).open("a") as figures:
                figures.write(json.dumps({name: value}) + "\n")

    return keep


@pytest.fixture(scope="session")
def directory() -> ModelDirectory:
    return ModelDirectory.open(Path(os.environ.get(MODEL) or default_model_dir()))
