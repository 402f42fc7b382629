"""The shipped model behind the server: its answers are those of the offline evaluation of the same texts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import minwatt
from minwatt.resources import default_model_dir
from minwatt.v1.decode import EntitySpan, ScoredLabel, entity_spans, top_labels
from minwatt.v1.model_dir import ModelDirectory
from modelkit.data.examples import Tasks
from modelkit.inference import Graph, encode, load_tokenizer, run_batch
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

TEXTS = [
    "Where is my card? It was posted last week.",
    "I was charged twice for one coffee",
    "How do I top up with Apple Pay?",
    "The exchange rate you used on Saturday was wrong.",
    "please close my account",
    "Angela Merkel met Tim Cook in Berlin on Tuesday.",
    "The Red Cross opened an office in New York and another in São Paulo 🎉",
    "😀😀 Ursula von der Leyen flew from Brussels to 東京 yesterday 👩‍👩‍👧",
    "Jose\u0301 from Zu\u0308rich works at Nestle\u0301 S.A.",
    "東京 is larger than 京都, said Haruki Murakami.",
    "no",
    "??? !!! ...",
    "Microsoft, Google and the University of Oxford signed the letter in London, Paris and Madrid. " * 8,
]
SCORE_TOLERANCE = 0.01  # quantized sums may differ with the batch's shape


@pytest.fixture(scope="module")
def replica(front_ends: int) -> Iterator[ReplicaProcess]:
    with ReplicaProcess(default_model_dir(), "--slo", "2s", "--max-delay", "20ms") as replica:
        yield replica


class Offline:
    """Each text alone through the evaluation's own path."""

    def __init__(self, path: Path) -> None:
        directory = ModelDirectory.open(path)
        self.spec = directory.spec
        self.tasks = Tasks.of(self.spec)
        self._tokenizer = load_tokenizer(directory.tokenizer_file(), self.spec.max_tokens)
        self._graph = Graph(directory.variant_file(self.spec.default_variant), self.tasks.outputs)

    def answer(self, text: str) -> tuple[ScoredLabel, list[EntitySpan]]:
        (encoded,) = encode(self._tokenizer, [text])
        (logits,) = run_batch(self._graph, [encoded])
        (label,) = top_labels(logits.intents, self.tasks.intent.labels, top_k=1, min_score=0.0)
        return label, entity_spans(logits.tags, encoded, self.tasks.entities.labels, min_score=0.0)


async def test_served_answers_are_the_evaluated_ones(replica: ReplicaProcess) -> None:
    offline = Offline(default_model_dir())
    assert replica.model.startswith(
        f"{offline.spec.name} {offline.spec.version} {offline.spec.default_variant}"
    )
    async with minwatt.AsyncClient(replica.target, timeout_s=60) as client:
        labels, entities, *alone = await asyncio.gather(  # all at once: tasks and lengths share batches
            client.classify(TEXTS),
            client.extract_entities(TEXTS),
            *(client.classify([text]) for text in TEXTS),
        )
    for index, text in enumerate(TEXTS):
        label, spans = offline.answer(text)
        for served in (labels[index], alone[index][0]):
            assert served.label == label.name
            assert served.score == pytest.approx(label.score, abs=SCORE_TOLERANCE)
        found = entities[index].entities
        assert [(e.label, e.start, e.end) for e in found] == [(s.label, s.start, s.end) for s in spans]
        assert [e.score for e in found] == pytest.approx([s.score for s in spans], abs=SCORE_TOLERANCE)
        assert all(e.text == text[e.start : e.end] for e in found)
    assert any(entities[TEXTS.index(text)].entities for text in TEXTS if "東京" in text)
