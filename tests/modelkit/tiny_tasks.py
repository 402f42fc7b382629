"""Two tasks of a few texts that a tiny encoder learns in a second, and a fine-tuning on them.

Imports no torch: tests that need it skip by themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

from modelkit.data.checks import read_checks
from modelkit.data.dataset import TaskFiles, read_datasets
from modelkit.recipe import FinetuneOptions, TrainingOptions
from modelkit.training.base import known_tasks
from tests.tiny_model import WORDS

QUICK = TrainingOptions(
    epochs=3, batch_size=8, encoder_rate=1e-3, embedding_rate=1e-3, max_tokens=32, threads=1
)


def write_texts(path: Path) -> TaskFiles:
    """Two intents, told apart by a word; as CSV to train on and JSONL to score on."""
    rows = [
        (f"{word} {name} {kind}", kind) for word in WORDS[:8] for name in ("hello", "my") for kind in KINDS
    ]
    (path / "train.csv").write_text("label,text\n" + "".join(f"{label},{text}\n" for text, label in rows))
    for split in ("dev", "test"):
        lines = (json.dumps({"text": text, "label": label}) for text, label in rows)
        (path / f"{split}.jsonl").write_text("\n".join(lines))
    return TaskFiles.parse(f"intent:{path / 'train.csv'},{path / 'dev.jsonl'},{path / 'test.jsonl'}")


KINDS = ("card", "rate")


def write_people(path: Path) -> TaskFiles:
    """People by their names: as CoNLL to train on and as spans to score on."""
    (path / "train.conll").write_text(
        "".join(f"{word} O\nalice B-PER\nsmith I-PER\n\n{word} O\nis O\n\n" for word in WORDS)
    )
    lines = [{"text": f"{word}  alice smith", "entities": [span(len(word) + 2)]} for word in WORDS]
    (path / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return TaskFiles.parse(f"people:{path / 'train.conll'},{path / 'people.jsonl'}")


def span(start: int) -> dict[str, object]:
    return {"start": start, "end": start + len("alice smith"), "label": "PER"}


def run(options: FinetuneOptions, stop_after: int | None = None) -> list[str]:
    """What it said; `stop_after` kills it once that epoch is reported."""
    from modelkit.training.finetune import finetune
    from modelkit.training.hearers import Hearers

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if stop_after is not None and line.startswith(f"epoch {stop_after + 1} "):
            raise KeyboardInterrupt

    known = known_tasks(options.base)
    datasets = read_datasets((*options.tasks, *options.auxiliary), known, options.replay)
    checks = read_checks(options.checks, known, datasets)
    finetune(options, datasets, checks, Hearers(say, lambda done, total: None))
    return said
