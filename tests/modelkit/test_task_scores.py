"""Scores of each task: entities as seqeval counts them, and every text is right or confused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelkit.data.texts import TaggedSentence
from modelkit.scoring.confusion_document import confusion_document
from modelkit.scoring.report import task_table
from modelkit.scoring.task_scores import Confusion, LabelScore, TaskScore, entity_task_score
from report.figures import tables_of
from report.page import as_html
from tests.report.made import MADE_BY

LABELS = ("LOC", "PER")
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
PAIRS = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=8)
CORPUS = st.lists(PAIRS, min_size=1, max_size=6)


def score_of(corpus: list[list[tuple[str, str]]]) -> TaskScore:
    truths, answers = [], []
    for pairs in corpus:
        tokens = ("word",) * len(pairs)
        truths.append(TaggedSentence(tokens, tuple(truth for truth, _ in pairs)).annotated)
        answers.append(frozenset(TaggedSentence(tokens, tuple(answer for _, answer in pairs)).spans))
    return entity_task_score("names", "dev", truths, answers, LABELS)


@given(CORPUS)
def test_scores_are_shares_and_support_counts_every_entity(corpus: list[list[tuple[str, str]]]) -> None:
    score = score_of(corpus)
    for one in (score.score, score.macro_f1, *(label.f1 for label in score.labels)):
        assert 0 <= one <= 1
    same = score_of([[(truth, truth) for truth, _ in pairs] for pairs in corpus])
    for label in same.labels:
        assert label.f1 == (1.0 if label.support else 0.0)
    assert [label.support for label in same.labels] == [label.support for label in score.labels]


@given(CORPUS)
def test_entities_are_counted_as_seqeval_counts_them(corpus: list[list[tuple[str, str]]]) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    assume(any({*pair} != {"O"} for pairs in corpus for pair in pairs))  # it fails on no entity at all
    truths = [[truth for truth, _ in pairs] for pairs in corpus]
    answers = [[answer for _, answer in pairs] for pairs in corpus]
    report = seqeval.classification_report(truths, answers, output_dict=True, zero_division=0)
    score = score_of(corpus)
    for label in score.labels:
        if label.label in report:
            theirs = report[label.label]
            assert (label.precision, label.recall, label.f1) == pytest.approx(
                (theirs["precision"], theirs["recall"], theirs["f1-score"])
            )
            assert label.support == theirs["support"]
    assert score.score == pytest.approx(seqeval.f1_score(truths, answers, zero_division=0))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_every_text_is_right_or_confused(pairs: list[tuple[int, int]]) -> None:
    pytest.importorskip("sklearn", reason="scores of labels need the train extra")
    from modelkit.scoring.class_scores import class_task_score

    truths, answers = [truth for truth, _ in pairs], [answer for _, answer in pairs]
    score = class_task_score("intent", "test", truths, answers, ("a", "b", "c"))
    wrong = sum(confusion.texts for confusion in score.confusions)
    assert score.score == pytest.approx(1 - wrong / len(pairs))
    assert sum(label.support for label in score.labels) == len(pairs)


def test_the_page_of_confusions_has_the_texts_of_every_cell() -> None:
    one = LabelScore(label="a", precision=1, recall=0.5, f1=2 / 3, support=4)
    other = LabelScore(label="b", precision=0, recall=0, f1=0, support=0)
    confusions = (Confusion(truth="a", answer="b", texts=2),)
    score = TaskScore(
        task="intent",
        kind="classification",
        split="test",
        examples=4,
        score=0.5,
        macro_f1=1 / 3,
        labels=(one, other),
        confusions=confusions,
    )
    found = confusion_document(score, MADE_BY)
    assert [row.cells for row in tables_of(found.charts[0], 10)[0].rows] == [("a", "b", "2")]
    page = as_html(found)
    assert '"customdata":[[2,2],[0,0]]' in page
    assert '"z":[[0.5,0.5],[0.0,0.0]]' in page
    assert "intent on test: accuracy 0.5000, 4 texts" in page


def test_the_table_has_the_worst_label_first() -> None:
    score = score_of([[("B-PER", "B-PER"), ("B-LOC", "O")]])
    table = task_table(score)
    assert list(table.columns[0].cells) == ["LOC", "PER"]
    assert table.title == "names on dev: F1 of exact entities 0.6667, macro F1 0.5000, 1 examples"
