"""The model behind mosec: JSON over HTTP, dynamic batches, one process a worker.

MINWATT_BENCH_MODEL=DIR python -m bench.peers.mosec_app --port PORT
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mosec import Server, Worker

from bench.peers.sizing import MAX_BATCH, MODEL_VARIABLE, WAIT_MS, WORKERS
from bench.peers.support_text import SupportText


class Classifier(Worker):
    """Requests are {"texts": [...]}, answers {"results": [[label, score], ...]}."""

    def __init__(self) -> None:
        super().__init__()
        self._model = SupportText(Path(os.environ[MODEL_VARIABLE]))

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answers = iter(self._model.classify([text for request in data for text in request["texts"]]))
        return [{"results": [next(answers) for _ in request["texts"]]} for request in data]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classifier, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=WAIT_MS)
    server.run()
