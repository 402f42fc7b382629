"""What one engine does with a batch: seconds and joules, at one clock, for texts of one length.

Pure values. `profile` makes them from its fitted lines; `latency`, `plan` and `simulate` compute with them.

A batch of b texts takes alpha + beta·b. In its fixed part the device draws `batch_w`, in its per-text part
`token_w`: so watts rise with the batch, as published tables show (a batch of one costs an A30 3.1 × the
joules a text that a full batch costs), and joules are linear in batches and texts:
J(b) = alpha·batch_w + beta·b·token_w.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Engine:
    """One precision variant on one device. Idle and parked watts do not change with the clock."""

    alpha_s: float
    beta_s_per_text: float
    idle_w: float
    batch_w: float
    token_w: float

    def service_s(self, batch_texts: float) -> float:
        """Seconds that a batch occupies the engine."""
        return self.alpha_s + self.beta_s_per_text * batch_texts

    def batch_j(self, batch_texts: float) -> float:
        """Joules drawn while it does, idle watts included."""
        return self.alpha_s * self.batch_w + self.beta_s_per_text * batch_texts * self.token_w

    def capacity_tps(self, batch_texts: float) -> float:
        """Texts a second with every batch that full."""
        return batch_texts / self.service_s(batch_texts)

    def watts(self, arrivals_tps: float, batch_mean_texts: float) -> float:
        """Mean watts of a replica that computes batches of that mean at that rate; idle ones in between."""
        batches_per_s = arrivals_tps / batch_mean_texts
        busy = min(1.0, batches_per_s * self.service_s(batch_mean_texts))
        return self.idle_w * (1 - busy) + batches_per_s * self.batch_j(batch_mean_texts)
