"""A classification task as a report: which labels are taken for which. Pure. Called by `publish`."""

from __future__ import annotations

import plotly.graph_objects as go

from modelkit.scoring.task_scores import TaskScore
from report.document import Chart, Document, Row, Table, data_of
from report.provenance import Provenance

_CELL_PX, _MARGIN_PX, _LEAST_PX = 18, 260, 480


def confusion_document(score: TaskScore, made_by: Provenance) -> Document:
    """A row each true label, a column each answer, shares of rows. JSON: the score."""
    labels = [one.label for one in score.labels]
    column = {label: i for i, label in enumerate(labels)}
    texts = [[0] * len(labels) for _ in labels]
    for i, one in enumerate(score.labels):
        texts[i][i] = one.support
    for confusion in score.confusions:
        truth = column[confusion.truth]
        texts[truth][column[confusion.answer]] = confusion.texts
        texts[truth][truth] -= confusion.texts
    shares = [[count / max(1, sum(row)) for count in row] for row in texts]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=labels,
            y=labels,
            customdata=texts,
            colorscale="Blues",
            zmin=0,
            zmax=1,
            colorbar={"title": "share"},
            hovertemplate="%{y}<br>answered %{x}<br>%{customdata} texts, %{z:.1%}<extra></extra>",
        ),
        layout={"hovermode": "closest"},
    )
    figure.update_xaxes(type="category", automargin=True, dtick=1)
    figure.update_yaxes(type="category", automargin=True, dtick=1, autorange="reversed")
    side_px = max(_LEAST_PX, _CELL_PX * len(labels)) + _MARGIN_PX
    chart = Chart(
        figure,
        title="Labels and answers",
        unit="label",
        note="Of each label's texts, the share that got each answer.",
        x_title="answer",
        table=_confusions(score),
        height_px=side_px,
        width_px=side_px,
    )
    return Document(
        title=f"{score.task} on {score.split}: accuracy {score.score:.4f}, {score.examples} texts",
        about=f"Macro F1 {score.macro_f1:.4f}.",
        tables=[_labels(score)],
        charts=[chart],
        data=data_of(score),
        provenance=made_by,
    )


def _labels(score: TaskScore) -> Table:
    rows = [
        Row(
            (
                one.label,
                *(f"{figure:.3f}" for figure in (one.f1, one.precision, one.recall)),
                str(one.support),
            )
        )
        for one in sorted(score.labels, key=lambda one: one.f1)
    ]
    return Table(("label, worst first", "F1", "precision", "recall", "texts"), rows)


def _confusions(score: TaskScore) -> Table:
    """What is off the diagonal."""
    rows = [Row((one.truth, one.answer, str(one.texts))) for one in score.confusions]
    return Table(("label", "answer", "texts"), rows)
