"""Trains a finished network a little more with a quantization scheme's rounding in its forward pass.

Owns the order: load the checkpoint, round, train, export float32 weights that are used to being rounded.
Leaves the rounding to `fake_quantization`, optimisation to `train`. Called by `package`. Needs torch.
"""

from __future__ import annotations

from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, Task
from modelkit.compress.calibration import Batches as CalibrationBatches
from modelkit.data.examples import Source
from modelkit.export import export
from modelkit.inference import Graph, load_tokenizer
from modelkit.recipe import Retraining, TrainingOptions
from modelkit.release.parity import parity
from modelkit.scoring.evaluate import BASELINE, Say
from modelkit.training.batches import LearningTask
from modelkit.training.checkpoint import adopt_heads
from modelkit.training.fake_quantization import add_rounding, remove_rounding
from modelkit.training.network import MultiTaskEncoder, load_base
from modelkit.training.train import Hooks, Progress, TrainingData, train

MAX_DIFFERENCE = 0.01  # of a logit, between a checkpoint and the graph that was exported from it


def retrain(
    draft: ModelDirectory,
    checkpoint: Path,
    source: Source,
    batches: CalibrationBatches,
    how: Retraining,
    file: Path,
    say: Say,
) -> None:
    """Write to `file` the float32 graph of `checkpoint` after `how.epochs` epochs on the train split.

    Raises UsageError where the checkpoint is not what `draft`'s fp32 graph was exported from.
    """
    training = how.training
    network = load_trained(checkpoint, draft.spec.tasks, training.dropout)
    fp32 = Graph(draft.variant_file(BASELINE), (None, None))
    if parity(network, fp32, batches[:1]).logit > MAX_DIFFERENCE:
        raise UsageError(
            f"{checkpoint}: other weights than those of the {BASELINE} graph; `finetune` writes both"
        )
    most = min(training.max_tokens, draft.spec.max_tokens)
    tokenizer = load_tokenizer(draft.tokenizer_file(), most)
    learning = [_learning(task, source, training) for task in draft.spec.tasks]
    add_rounding(network, how.scheme, batches)

    def heard(progress: Progress, _: MultiTaskEncoder) -> None:
        losses = ", ".join(f"{loss:.3f}" for loss in progress.losses)
        say(f"{how.scheme}: epoch {progress.epoch} of {progress.epochs}, losses {losses}")

    def counted(done: int, steps: int) -> None:
        say(f"{how.scheme}: training with its rounding, step {done} of {steps}")

    trained = train(network, TrainingData(learning, tokenizer), training, Hooks(heard, counted))
    remove_rounding(trained)
    export(trained, file)


def load_trained(checkpoint: Path, tasks: tuple[Task, ...], dropout: float = 0.0) -> MultiTaskEncoder:
    """A checkpoint's encoder with its heads. Raises UsageError unless it has one for each of `tasks`."""
    network = load_base(checkpoint, tasks, dropout)
    adopted = adopt_heads(network, checkpoint)
    for task in tasks:
        if task.name not in adopted:
            there = ", ".join(adopted) or "none"
            raise UsageError(f"{checkpoint}: no head for task {task.name!r} with its labels; there: {there}")
    network.eval()
    return network


def _learning(task: Task, source: Source, training: TrainingOptions) -> LearningTask:
    if task.kind == "classification":
        return LearningTask(task, source.texts(task), training.hide_text_probability)
    return LearningTask(
        task, source.annotated(task), training.hide_sentence_probability, training.swap_probability
    )
