"""What a path holds that can be compared: told from the content, never from the name.

Called by `report`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from loadtest.runs import RUN_FILE, RunData, read_run, run_folders
from minwatt.commands.backtest_result import Backtest
from minwatt.v1 import strict_yaml
from minwatt.v1.errors import UsageError, one_line
from modelkit.card.measurements import CARD_FILE, Card, read_card
from scaler.documents import validate_document
from scaler.profile import Profile

ALLOWED = (
    "the folder of a run of `minwatt replay --out`, what `minwatt backtest --json` prints, a profile, "
    "an energy card (card.json or its folder)"
)
Result = RunData | Backtest | Profile | Card
_KINDS = {RunData: "a load test", Backtest: "a backtest", Profile: "a profile", Card: "an energy card"}
_SAID_BESIDE = {"doubts", "provenance"}  # by `minwatt profile show --json`, beside the profile


def kind(result: Result) -> str:
    """In words."""
    return _KINDS[type(result)]


def read(path: Path) -> Result:
    """Raises UsageError, one line, where it can't be read or is nothing that is compared."""
    if path.is_dir():
        return _in_folder(path)
    document = _document(path)
    if document.get("kind") == "Profile":
        fields = {name: value for name, value in document.items() if name not in _SAID_BESIDE}
        return validate_document(fields, Profile, str(path))
    if {"contenders", "assumptions"} <= document.keys():
        try:
            return Backtest.model_validate(document)
        except ValidationError as error:
            raise one_line(error, str(path)) from error
    if {"variants", "comparisons"} <= document.keys():
        return read_card(path)
    if "runs" in document:
        raise UsageError(
            f"{path}: a load test's report, without the raw results; allowed: the folder of one run"
        )
    raise UsageError(f"{path}: nothing that is compared; allowed: {ALLOWED}")


def _in_folder(path: Path) -> Result:
    """A run's own folder, one that has a single run below it, or a card's."""
    if (path / RUN_FILE).exists():
        return read_run(path)
    if (path / CARD_FILE).exists():
        return read_card(path / CARD_FILE)
    below = run_folders(path)
    if len(below) != 1:
        names = ", ".join(folder.name for folder in below) or "none"
        raise UsageError(f"{path}: holds {len(below)} runs ({names}); allowed: the folder of one run")
    return read_run(below[0])


def _document(path: Path) -> Mapping[str, object]:
    """JSON or YAML, as it is."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: not there; allowed: {ALLOWED}") from error
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text; allowed: {ALLOWED}") from error
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else strict_yaml.load(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: neither JSON nor YAML; allowed: {ALLOWED}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: nothing that is compared; allowed: {ALLOWED}")
    return found
