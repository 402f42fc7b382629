"""Files that training leaves: a disk that fills up is an OSError, and what was kept before is still there."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")


@contextmanager
def a_disk_of(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_state_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    from modelkit.training.checkpoint import ResumeFile

    file = ResumeFile(tmp_path / "resume.pt", {"seed": "1"})
    file.save({"weights": torch.ones(3)})
    with a_disk_of(8192), pytest.raises(OSError, match=r"File too large"):
        file.save({"weights": torch.zeros(100_000)})
    kept = file.load()
    assert kept is not None
    assert kept["weights"].tolist() == [1, 1, 1]
    assert ResumeFile(file.path, {"seed": "2"}).load() is None


def test_a_checkpoint_that_does_not_fit_is_an_oserror(tmp_path: Path) -> None:
    from modelkit.training.checkpoint import write_checkpoint
    from modelkit.training.network import load_base
    from tests.modelkit.tiny_base import write_base

    base = write_base(tmp_path / "base")
    network = load_base(base, [], 0.0, base / "tokenizer.json")
    (tmp_path / "checkpoint").mkdir()
    with a_disk_of(8192), pytest.raises(OSError, match=r"model\.safetensors"):
        write_checkpoint(network, base / "tokenizer.json", tmp_path / "checkpoint")
