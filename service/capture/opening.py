"""A capture from the settings. Called by `assembly`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError
from service.capture.rotation import Bounds
from service.capture.sampling import Sampling
from service.capture.writer import Mask, Writer
from service.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class Capture:
    sampling: Sampling
    writer: Writer


def open_capture(settings: ServeSettings, replica: str, mask: Mask | None) -> Capture | None:
    """Where one was asked for; not started. Raises UsageError where the folder can't be written."""
    folder = settings.capture
    if folder is None:
        return None
    if settings.capture_texts and mask is None:
        raise UsageError("capture-texts: texts are kept masked only, and this server was given no masker")
    _check_writable(folder)
    sampling = Sampling(settings.capture_share, settings.capture_texts)
    bounds = Bounds(settings.capture_bytes, settings.capture_keep_s)
    return Capture(sampling, Writer(folder, replica, bounds, sampling, mask))


def _check_writable(folder: Path) -> None:
    """Found out now, and not at the first request."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(f"capture = {str(folder)!r}: can't be written ({error.strerror})") from error
