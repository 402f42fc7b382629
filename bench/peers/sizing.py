"""How large each peer is made, and how its workers learn of the model. Nothing but the standard library.

Called by `catalogue`, and by what runs in the peers' environments.
"""

from __future__ import annotations

MODEL = "support-text"
MODEL_VARIABLE = "MINWATT_BENCH_MODEL"  # the model's directory, told to the peer's workers
WORKERS = 2  # of one thread: the fastest on two cores
MAX_BATCH = 16  # texts
WAIT_MS = 1  # for company, where a server can't do without
