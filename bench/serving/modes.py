"""The ways in which two cores can compute batches: sessions, their threads, who uses them, batch sizes.

Pure. Called by `ceiling` and by `run`.
"""

from __future__ import annotations

from dataclasses import dataclass

BATCHES = (1, 8, 32)


@dataclass(frozen=True, slots=True)
class Mode:
    sessions: int
    threads: int  # of an operator
    users: int  # threads that call the sessions
    batch: int

    @property
    def name(self) -> str:
        sessions = "1 session" if self.sessions == 1 else f"{self.sessions} sessions"
        shared = " shared by 2" if self.users > self.sessions else ""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{sessions}{shared} × {threads}, batch {self.batch}"


MODES = tuple(
    Mode(sessions, threads, users, batch)
    for sessions, threads, users in ((1, 2, 1), (2, 1, 2), (1, 1, 2))
    for batch in BATCHES
)
