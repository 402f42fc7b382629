"""docs/policy.md: every field of a policy and of its status, the annotations, the conditions.

Pure. Made of the schemas and of what `conditions` and `policy_object` say of themselves:
`python -m scaler.kube.policy_page > docs/policy.md`; a test fails when that file is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from scaler.kube.conditions import MEANINGS, OBSTACLES, REASONS, SHOWN_S
from scaler.kube.crd import COLUMNS, spec_schema, status_schema
from scaler.kube.policy_object import PAUSED, PROFILE, REPLICAS

_HEAD = """\
<!-- Made of scaler/policy.py: python -m scaler.kube.policy_page > docs/policy.md -->
# PowerPolicy

What an SRE wants of a fleet: `minwatt.dev/v1alpha1`, kind `PowerPolicy`. The same document is a file for
`minwatt up`, `scale`, `plan` and `backtest`, and an object on Kubernetes; `minwatt policy check FILE` reads
both. What is left out has the default.

```yaml
apiVersion: minwatt.dev/v1alpha1
kind: PowerPolicy
metadata: {name: support-text}
spec:
  targetRef: {kind: Deployment, name: support-text}
  model: support-text
  slo: {latency: 50ms}
  power: {budget: 1200W}
  replicas: {min: 1, max: 40}
```

## spec

Durations are written as `50ms`, `5s`, `2m`, `1h`; power as `20W`, `1.2kW`; shares as `0.1%`.
"""

_RULES = """
`targetRef` is required on Kubernetes. In a file it may be left out: replicas are then local processes, or
join by themselves.

Of fields together: `replicas.min` ≤ `telemetry.fallbackReplicas` ≤ `replicas.max`; each step of
`power.whenOverBudget` once. On Kubernetes the API server refuses what breaks a rule. What only the controller
can find out (no profile of the model, an SLO that no operating point meets) it says in the conditions, and
the last policy that could be used stays in force: `status.generationInForce` is then below
`metadata.generation`. It is kept in `status.lastGood`, so that it outlives every copy of the controller.

## Annotations
"""

_ANNOTATIONS = f"""
| annotation | value | |
|---|---|---|
| `{PAUSED}` | `"true"` or `"false"` | With `"true"` minwatt looks, decides and writes the status, and moves \
nothing: neither replicas nor operating points. Any other value is refused in the condition Ready, and \
pauses until it is mended: who writes this annotation wants to stop something. |
| `{REPLICAS}` | `external` | Another autoscaler (KEDA) scales the target by minwatt's desired replicas. \
minwatt sets operating points and never writes the scale. |
| `{PROFILE}` | name of a file in the directory of `--profiles` | Which profile to plan with, where the \
controller has several of the model. |

Any other annotation under `minwatt.dev/` is refused in the condition Ready: it is one of these, misspelt.

## Conditions

A condition's `lastTransitionTime` moves only with its status. A broken promise (SLO, budget) is shown for
{SHOWN_S:g} s at least.
"""

_OBSTACLES = """\
Where something outside of the policy keeps the controller from acting, Ready is False for one of these
reasons, and the message says what to do.

| reason | |
|---|---|"""

_COLUMNS_HEAD = """
## Columns

Of `kubectl get powerpolicies`, or `kubectl get pp`.

| column | | |
|---|---|---|"""

_STATUS_HEAD = """
## status

Written by the controller alone. Quantities are spelled as in `spec`. `decision` is what minwatt wants and
why; `lastScaling` is what the target was last scaled to, by whomever.
"""


def page() -> str:
    return "\n".join(
        [
            _HEAD,
            "| field | value | default | |",
            "|---|---|---|---|",
            *_rows(spec_schema(), ""),
            _RULES.rstrip("\n"),
            _ANNOTATIONS,
            *_conditions(),
            _OBSTACLES,
            *(f"| `{reason}` | {says} |" for reason, says in OBSTACLES.items()),
            _COLUMNS_HEAD,
            *(
                f"| {name.upper()} | {'`-o wide`' if wide else ''} | {says} |"
                for name, _, _, says, wide in COLUMNS
            ),
            _STATUS_HEAD,
            "| field | value | |",
            "|---|---|---|",
            *_rows(_told(), "", with_default=False),
            "",
        ]
    )


def _told() -> dict[str, Any]:
    """The status; the fields of a spec that it repeats are listed above."""
    schema = status_schema()
    schema["properties"]["lastGood"]["properties"]["spec"].pop("properties")
    return schema


def _conditions() -> Iterator[str]:
    for kind, meaning in MEANINGS.items():
        yield f"**{kind}**: {meaning}."
        yield ""
        yield from ("| reason | |", "|---|---|")
        yield from (f"| `{reason}` | {says} |" for reason, says in REASONS[kind].items())
        yield ""


def _rows(schema: dict[str, Any], path: str, *, with_default: bool = True) -> Iterator[str]:
    """Of each field below `schema`, depth first."""
    required = schema.get("required", ())
    for name, one in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        cells = [f"`{here}`", _value(one)]
        if with_default:
            cells.append(_default(one, required=name in required))
        yield f"| {' | '.join([*cells, one.get('description', '')])} |"
        below, where = (one["items"], f"{here}[]") if one.get("type") == "array" else (one, here)
        yield from _rows(below, where, with_default=with_default)


def _value(schema: dict[str, Any]) -> str:
    rules = schema.get("x-kubernetes-validations", ())
    if "pattern" in schema and rules:
        return str(rules[0]["message"]).removeprefix("allowed: ").split(", such as")[0]
    if "enum" in schema:
        words = (f"`{word}`" for word in schema["enum"] if not isinstance(word, bool))
        return ", ".join(words)
    if schema.get("type") == "array":
        return f"list of {_value(schema['items']) if 'enum' in schema['items'] else _of(schema['items'])}"
    return _of(schema)


def _of(schema: dict[str, Any]) -> str:
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and high < 2**31 - 1:
        below = "below " if schema.get("exclusiveMaximum") else ""
        return f"{low} to {below}{high}"
    return kind.get(schema["type"], str(schema["type"]))


def _default(schema: dict[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    default = schema.get("default")
    return "" if default is None or isinstance(default, dict) else f"`{default}`"


if __name__ == "__main__":
    sys.stdout.write(page())
