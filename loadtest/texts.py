"""The texts that requests carry: a file's lines, or the packaged sentences.

Owns reading and checking them. The packaged ones were written for this project: bank support questions
to classify, news sentences to find people, organisations and places in. Called by `load` and by `minwatt
profile`.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from loadtest.plan import Task
from minwatt.v1.errors import UsageError

_PACKAGED = {Task.CLASSIFY: "support.txt", Task.EXTRACT: "news.txt"}


def packaged_texts(task: Task) -> list[str]:
    """About 150 sentences of 1 to 40 words fit for the task; some with emoji, accents and CJK."""
    text = files("loadtest").joinpath("texts", _PACKAGED[task]).read_text(encoding="utf-8")
    return text.splitlines()


def read_texts(path: Path) -> list[str]:
    """The file's lines, UTF-8, one text each, without the blank ones. Raises UsageError if none is left."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"--texts = {path}: not UTF-8 text") from error
    except OSError as error:
        raise UsageError(f"--texts = {path}: can't be read ({error.strerror})") from error
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise UsageError(f"--texts = {path}: no texts; expected one a line")
    return texts
