"""How many times faster one model directory answers than another: both in turn, on the same texts.

    python -m bench.two_models models/support-text models/support-text-small --data DATA

`minwatt model card` compares the variants of one directory; this compares the default variants of two that
have one tokenizer. A load's figure is the median over rounds of the ratio of their times, with the lowest and
highest. The loads are the card's: batches of 8 of the test split's texts, and of its sentences, in their own
lengths, and a grid of equal lengths. One thread.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.card.speed import STANDARD_SPEED, Round, interleaved, random_batch
from modelkit.data.examples import FolderSource, Tasks, load_evaluation_set
from modelkit.inference import Graph, Ids, load_tokenizer, pad
from modelkit.scoring.evaluate import DEFAULT_SETS

BATCH, BATCHES, ROUNDS, SEED = 8, 32, 11, 1
ROUND_TOKENS = 4096  # of a load of equal lengths


def own_lengths(encoded: Sequence[EncodedText]) -> list[tuple[Ids, Ids]]:
    """Batches at random, each padded to its longest."""
    pool = list(encoded)
    random.Random(SEED).shuffle(pool)
    return [pad(pool[first : first + BATCH]) for first in range(0, BATCH * BATCHES, BATCH)]


def ratios(one: Sequence[Round], other: Sequence[Round]) -> tuple[float, float, float]:
    """(median, lowest, highest) over the rounds of how many times as long the first took."""
    pairs = zip(one, other, strict=True)
    found = [math.fsum(first.calls_s) / math.fsum(second.calls_s) for first, second in pairs]
    return statistics.median(found), min(found), max(found)


def compare(paths: tuple[Path, Path], data: Path) -> list[tuple[str, tuple[float, float, float]]]:
    """How many times faster the second is, by load. Raises UsageError on bad directories or data."""
    first, second = (ModelDirectory.open(path) for path in paths)
    if first.spec.tokenizer.sha256 != second.spec.tokenizer.sha256:
        raise UsageError(f"{paths[1]}: its tokenizer is not that of {paths[0]}; allowed: the same")
    tasks = Tasks.of(first.spec)
    tokenizer = load_tokenizer(first.tokenizer_file(), first.spec.max_tokens)
    examples = load_evaluation_set(tasks, tokenizer, FolderSource(data, "test", DEFAULT_SETS))
    graphs = {
        name: Graph(each.variant_file(each.spec.default_variant), Tasks.of(each.spec).outputs)
        for name, each in (("first", first), ("second", second))
    }
    loads = [
        (f"{BATCH} texts of their own lengths", own_lengths(examples.encoded_texts), BATCHES),
        (f"{BATCH} sentences of their own lengths", own_lengths(examples.encoded_sentences), BATCHES),
    ]
    token_ids = [token for encoded in examples.encoded_texts for token in encoded.ids]
    for number, (texts, tokens) in enumerate(STANDARD_SPEED.shapes):
        batch = random_batch((texts, tokens), token_ids, SEED + number)
        calls = max(1, ROUND_TOKENS // (texts * tokens))
        loads.append((f"{texts} of {tokens} tokens", [batch], calls))
    results = []
    for title, batches, calls in loads:
        interleaved(graphs, batches, 1, len(batches))  # warms up
        rounds = interleaved(graphs, batches, ROUNDS, calls)
        results.append((title, ratios(rounds["first"], rounds["second"])))
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Times two model directories in turn.")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        results = compare((given.first, given.second), given.data)
    except UsageError as error:
        parser.error(str(error))
    lines = [f"{given.second} against {given.first}, {ROUNDS} rounds each in turn, one thread:"]
    for title, (median, lowest, highest) in results:
        lines.append(f"  {title:34s} {median:5.2f} [{lowest:.2f}, {highest:.2f}] times as fast")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
