"""Label selectors: whether they match, and how a list's query spells them. Pure.

Kubernetes' rules: requirements are joined by AND; an empty selector matches everything, none matches nothing;
`NotIn` and `DoesNotExist` match what does not have the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """`selector`: metav1.LabelSelector."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    return all(_met(one, labels) for one in selector.get("matchExpressions") or ())


def _met(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    name, operator = str(requirement.get("key")), requirement.get("operator")
    values = requirement.get("values") or ()
    if operator == "In":
        return labels.get(name) in values
    if operator == "NotIn":
        return labels.get(name) not in values
    if operator == "Exists":
        return name in labels
    return operator == "DoesNotExist" and name not in labels
