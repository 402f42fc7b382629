"""Builds the default model and a student of it: fine-tune, distil, quantize, and the caller's card.

Owns the order of the steps, and which of them a build that was killed has behind it. Leaves each step to its
module, and the energy card to the caller: its page and its intensities are those of other components. Called
by the `minwatt` command. Needs the `train` extra.

    OUT/                  the default model, as `finetune` and `package` write it
    STUDENT/              the small model that was distilled from it, likewise
    DIR/.cache/done.json  of each of the two: which steps are done, and what the build was told
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from minwatt.v1.errors import UsageError
from modelkit.data.dataset import TaskFiles, digest_of, read_datasets
from modelkit.package import PackageResult, quantize, refuse_bad_name
from modelkit.recipe import BuildOptions, DistilOptions, FinetuneOptions, PackageOptions
from modelkit.scoring.evaluate import SPLITS, Say
from modelkit.training.distil import distil
from modelkit.training.finetune import finetune
from modelkit.training.hearers import Hearers
from modelkit.training.lesson import read_lesson

INTENT, ENTITIES = "intent", "entities"
DONE = "done.json"
PLACES = ("tasks", "out_dir", "teacher")
SUFFIXES = {INTENT: ".jsonl", ENTITIES: ".conll"}

MakeCard = Callable[[Path], None]  # of a model directory
Result = TypeVar("Result")


class SchemeRefusedError(Exception):
    """No quantization scheme passes on dev: what has been built stays in fp32."""

    def __init__(self, model_dir: Path, result: PackageResult) -> None:
        super().__init__(str(model_dir))
        self.model_dir, self.result = model_dir, result


@dataclass(frozen=True)
class Built:
    """A finished model directory and its scores; None where an earlier run of the build had quantized it."""

    model_dir: Path
    result: PackageResult | None


def build(options: BuildOptions, hearers: Hearers, make_card: MakeCard) -> tuple[Built, Built]:
    """Do everything; after a kill, what was not done. The default model, and the student.

    Raises UsageError (DataError among them) on bad data or options, or a full disk, and SchemeRefusedError.
    """
    tasks = files_of(options)
    _refuse_late_mistakes(options, tasks)
    package = PackageOptions(tasks)
    teaching = FinetuneOptions(
        tasks=tasks,
        out_dir=options.out_dir,
        name=options.name,
        base=options.base,
        version=options.version,
        description=options.description,
        served_tokens=options.max_tokens,
        training=options.training,
    )
    learning = DistilOptions(
        teacher=options.out_dir,
        student=options.student,
        tasks=tasks,
        out_dir=options.student_dir,
        name=options.student_name,
        version=options.version,
        description=options.student_description,
        served_tokens=options.max_tokens,
        weights=options.weights,
        training=options.student_training,
    )
    told = _told(teaching)
    default = _Steps(options.out_dir, told, hearers.say)
    student = _Steps(options.student_dir, {"teacher": str(told), **_told(learning)}, hearers.say)
    default.do("fine-tune", lambda _: finetune(teaching, read_datasets(tasks), (), hearers))
    student.do("distil", lambda _: distil(learning, read_lesson(learning), hearers))

    def quantized(model_dir: Path) -> PackageResult:
        result = quantize(model_dir, package, hearers.say)
        if result.shipped is None:
            raise SchemeRefusedError(model_dir, result)
        return result

    built = tuple(Built(each.model_dir, each.do("quantize", quantized)) for each in (default, student))
    for each in (default, student):
        each.do("card", make_card)
    return built[0], built[1]


def files_of(options: BuildOptions) -> tuple[TaskFiles, ...]:
    """The files of the two tasks' sets. Raises UsageError where there is no set for one."""
    for name in (INTENT, ENTITIES):
        if name not in options.sets:
            raise UsageError(f"sets: none for task {name!r}; the two tasks are {INTENT} and {ENTITIES}")
    return tuple(
        TaskFiles(
            name, {split: options.data_dir / options.sets[name] / f"{split}{suffix}" for split in SPLITS}
        )
        for name, suffix in SUFFIXES.items()
    )


class _Steps:
    """The steps of one model directory; each is done once for what the build is told."""

    def __init__(self, model_dir: Path, told: Mapping[str, str], say: Say) -> None:
        self.model_dir = model_dir
        self._file = model_dir / ".cache" / DONE
        self._told = dict(told)
        self._say = say

    def do(self, name: str, step: Callable[[Path], Result]) -> Result | None:
        """What the step gives of the model directory; None where it was done before."""
        title = f"{self.model_dir.name}: {name}"
        done = self._done()
        if name in done:
            self._say(f"{title}: done before")
            return None
        self._say(title)
        started_s = time.monotonic()
        result = step(self.model_dir)
        taken_s = time.monotonic() - started_s
        self._say(f"{title}: took {taken_s / 60:.1f} minutes")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            content = {"told": self._told, "steps_s": done | {name: round(taken_s, 1)}}
            self._file.write_text(json.dumps(content, indent=2), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{self._file}: can't be written ({error.strerror or error})") from error
        return result

    def _done(self) -> dict[str, float]:
        """Seconds of the steps that are done; none where another build did them."""
        try:
            content = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        steps_s: dict[str, float] = content["steps_s"]
        return steps_s if content["told"] == self._told else {}


def _refuse_late_mistakes(options: BuildOptions, tasks: Sequence[TaskFiles]) -> None:
    """Everything of the user's that is otherwise first read after half an hour of training."""
    refuse_bad_name(options.name, options.version)
    refuse_bad_name(options.student_name, options.version)
    if options.out_dir.resolve() == options.student_dir.resolve():
        raise UsageError(
            f"student-out = {str(options.student_dir)!r}: that is --out; allowed: another directory"
        )
    for dataset, name, kind in zip(read_datasets(tasks), SUFFIXES, ("classification", "ner"), strict=True):
        if dataset.task.kind != kind:
            raise UsageError(
                f"sets: {options.sets[name]} is of kind {dataset.task.kind}; task {name!r} is {kind}"
            )


def _told(options: FinetuneOptions | DistilOptions) -> dict[str, str]:
    """What a training must have in common with one that need not be done again: all but where files lie."""
    chosen = {name: str(value) for name, value in vars(options).items() if name not in PLACES}
    return chosen | {f"data of {files.name}": digest_of(files.splits.values()) for files in options.tasks}
