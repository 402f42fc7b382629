"""The page of a classification task: which labels are taken for which. Pure. Called by `finetune`."""

from __future__ import annotations

import plotly.graph_objects as go
import plotly.io

from modelkit.scoring.task_scores import TaskScore

_CELL_PX, _MARGIN_PX, _LEAST_PX = 18, 260, 480


def confusion_page(score: TaskScore) -> str:
    """A page that opens without a network: a row each true label, a column each answer, shares of rows."""
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
        )
    )
    side_px = max(_LEAST_PX, _CELL_PX * len(labels)) + _MARGIN_PX
    title = f"{score.task} on {score.split}: accuracy {score.score:.4f}, {score.examples} texts"
    figure.update_layout(title=title, width=side_px, height=side_px, template="plotly_white")
    figure.update_xaxes(title="answer", type="category", automargin=True, dtick=1)
    figure.update_yaxes(title="label", type="category", automargin=True, dtick=1, autorange="reversed")
    page: str = plotly.io.to_html(figure, include_plotlyjs=True, full_html=True)
    return page
