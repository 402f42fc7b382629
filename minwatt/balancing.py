"""Which of a client's connections carries the next attempt.

Pure; time comes in as an argument. Called by `attempts`.
"""

from __future__ import annotations

SUSPECT_S = 1.0  # a connection that failed is passed over for so long, while another one looks well


class Balancer:
    """The connection with the fewest requests in flight, in turn where several have; failed ones last."""

    def __init__(self, connections: int) -> None:
        self._in_flight = [0] * connections
        self._suspect_until_s = [float("-inf")] * connections
        self._turn = 0

    def take(self, now_s: float) -> int:
        """The index of a connection, which has one request more in flight until `give_back`."""
        count = len(self._in_flight)
        chosen = min(
            ((self._turn + step) % count for step in range(count)),
            key=lambda index: (self._suspect(index, now_s), self._in_flight[index]),
        )
        self._turn = (chosen + 1) % count
        self._in_flight[chosen] += 1
        return chosen

    def give_back(self, connection: int) -> None:
        self._in_flight[connection] -= 1

    def worked(self, connection: int) -> None:
        self._suspect_until_s[connection] = float("-inf")

    def failed(self, connection: int, now_s: float) -> bool:
        """Passes it over for a while; whether another connection looks well."""
        self._suspect_until_s[connection] = now_s + SUSPECT_S
        return not all(self._suspect(index, now_s) for index in range(len(self._in_flight)))

    def _suspect(self, connection: int, now_s: float) -> bool:
        return now_s < self._suspect_until_s[connection]
