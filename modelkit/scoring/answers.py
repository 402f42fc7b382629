"""What a graph answers to an evaluation set, how right that is, and how often two graphs' answers differ.

Pure but for running the graph. Leaves padding to `inference`, the meaning of logits to `minwatt.v1.decode`.
Called by `evaluate`, `card.run` and `build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minwatt.v1.decode import EncodedText, entity_spans
from modelkit.data.examples import EvaluationSet
from modelkit.data.texts import Span
from modelkit.inference import Logits, Runner, run_all


@dataclass(frozen=True)
class Answers:
    """The best label (its column) of every text, and the entities of every sentence, in the set's order."""

    labels: tuple[int, ...]
    entities: tuple[frozenset[Span], ...]


def answers_of(runner: Runner, examples: EvaluationSet) -> Answers:
    """Answer the whole set, as it would be served."""
    labels = {i: int(logits.intents.argmax()) for i, logits in run_all(runner, examples.encoded_texts)}
    entities = {
        i: spans_of(logits, examples.encoded_sentences[i], examples.tags)
        for i, logits in run_all(runner, examples.encoded_sentences)
    }
    return Answers(
        tuple(labels[i] for i in range(len(labels))), tuple(entities[i] for i in range(len(entities)))
    )


def spans_of(logits: Logits, encoded: EncodedText, tags: Sequence[str]) -> frozenset[Span]:
    """The served entities of one text, of any score."""
    spans = entity_spans(logits.tags, encoded, tags, min_score=0.0)
    return frozenset(Span(span.start, span.end, span.label) for span in spans)


def intent_accuracy(answers: Answers, examples: EvaluationSet) -> float | None:
    """Share of texts whose best label is the right one; None of no texts."""
    if not examples.texts:
        return None
    return 1.0 - changed_share(answers.labels, [text.label for text in examples.texts])


def entity_counts(answers: Answers, examples: EvaluationSet) -> list[tuple[int, int, int]]:
    """Of each sentence, entities (right, found, expected); one is right when start, end and label all are."""
    counts = []
    for answer, sentence in zip(answers.entities, examples.sentences, strict=True):
        truth = frozenset(sentence.spans)
        counts.append((len(answer & truth), len(answer), len(truth)))
    return counts


def entity_scores(answers: Answers, examples: EvaluationSet) -> tuple[float, float, float] | None:
    """Micro precision, recall and F1 of entities; None of no sentences."""
    if not examples.sentences:
        return None
    counts = entity_counts(answers, examples)
    right, found, expected = (sum(column) for column in zip(*counts, strict=True))
    return (
        right / found if found else 0.0,
        right / expected if expected else 0.0,
        2 * right / (found + expected) if found + expected else 0.0,
    )


def changed_share(answers: Sequence[object], others: Sequence[object]) -> float:
    """Share of the answers to one set that are not equal in both; of none, none is."""
    return sum(one != other for one, other in zip(answers, others, strict=True)) / max(1, len(others))
