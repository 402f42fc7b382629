"""The expressions that panels share, by `$namespace` and `$policy`. Pure. Called by the rows."""

from __future__ import annotations

_ON = 'namespace=~"$namespace", policy=~"$policy"'
BY = "sum by (namespace, policy)"
OF = "max by (namespace, policy)"  # of the scaler's: after a change of leader two copies may show a policy
MEAN = "avg by (namespace, policy)"
WHO = "{{namespace}}/{{policy}}"

FAULTS = 'reason!~"invalid|identity|quota|cancelled"'
OK, MET, MISSED, HIT = 'status="OK"', 'slo="met"', 'slo="missed"', 'outcome=~"hit|joined"'


def now(metric: str, *matchers: str) -> str:
    return f"{metric}{{{', '.join((*matchers, _ON))}}}"


def rate(metric: str, *matchers: str) -> str:
    return f"rate({now(metric, *matchers)}[$__rate_interval])"


def quantile(share: float, metric: str, *matchers: str) -> str:
    buckets = rate(f"{metric}_bucket", *matchers)
    return f"histogram_quantile({share}, sum by (namespace, policy, le) ({buckets}))"
