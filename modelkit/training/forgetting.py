"""What new data made a model forget: scores on earlier texts, before the training and after it.

Called by `finetune`. Needs the `train` extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from minwatt.v1.model_dir import Task
from modelkit.data.checks import Check
from modelkit.inference import load_tokenizer
from modelkit.scoring.finetune_report import Forgetting
from modelkit.training.checkpoint import adopt_heads
from modelkit.training.network import MultiTaskEncoder, load_base
from modelkit.training.network_scores import score


def scores_before(
    checks: Sequence[Check], base: Path, known: Sequence[Task], tokenizer_file: Path, max_tokens: int
) -> tuple[float, ...]:
    """Of the checkpoint itself, with the labels that it knows."""
    if not checks:
        return ()
    tokenizer = load_tokenizer(tokenizer_file, max_tokens)
    network = load_base(base, known, 0.0, tokenizer_file)
    adopt_heads(network, base)
    network.eval()
    return tuple(score(network, one.task, tokenizer, one.examples, "check").score for one in checks)


def forgetting(
    checks: Sequence[Check], before: Sequence[float], network: MultiTaskEncoder, tokenizer: Tokenizer
) -> tuple[Forgetting, ...]:
    """The same of the trained network, whose labels are those and, it may be, more."""
    found = []
    for check, earlier in zip(checks, before, strict=True):
        [task] = [task for task in network.tasks if task.name == check.task.name]
        found.append(
            Forgetting(
                task=task.name,
                file=str(check.file.path),
                examples=len(check.examples),
                before=earlier,
                after=score(network, task, tokenizer, check.examples, "check").score,
            )
        )
    return tuple(found)
