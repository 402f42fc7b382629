"""What `minwatt serve` hands to the server: a masker for captured texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwatt.commands.serve import masking
from minwatt.v1.errors import UsageError
from service.assembly import assemble
from service.settings import ServeSettings


def test_names_and_what_has_a_form_are_masked() -> None:
    masked = masking()
    assert masked("Ann Smith can't pay, write to ann@example.com") == "[PERSON] can't pay, write to [EMAIL]"
    assert masked("where is my card?") == "where is my card?"


def test_texts_are_not_captured_without_a_masker(tiny_model: Path, tmp_path: Path) -> None:
    settings = ServeSettings.of_flags(
        model=tiny_model, meter="modelled", capture=tmp_path / "captured", capture_texts=True
    )
    with pytest.raises(UsageError, match="kept masked only"):
        assemble(settings)
