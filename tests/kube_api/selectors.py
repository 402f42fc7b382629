"""Label and field selectors, as list, watch and objects' own selectors use them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.kube_api.answers import bad_request

Test = Callable[[Mapping[str, Any]], bool]

_TERM = re.compile(
    r"\s*(?:"
    r"(?P<absent>!\s*[\w./-]+)"
    r"|(?P<set>[\w./-]+)\s+(?P<how>in|notin)\s*\((?P<values>[^)]*)\)"
    r"|(?P<key>[\w./-]+)\s*(?P<op>==|=|!=)\s*(?P<value>[\w./-]*)"
    r"|(?P<present>[\w./-]+)"
    r")\s*(?:,|$)"
)


def labels_match(selector: str) -> Test:
    """Of a selector such as `app=x,tier in (a,b),!canary`: whether an object fits."""
    tests: list[Test] = []
    at = 0
    while at < len(selector):
        term = _TERM.match(selector, at)
        if term is None or term.end() == at:
            raise bad_request(f"unable to parse requirement: {selector[at:]!r}")
        tests.append(_labels_test(term.groupdict()))
        at = term.end()
    return lambda item: all(test(item["metadata"].get("labels") or {}) for test in tests)


def _labels_test(term: Mapping[str, str | None]) -> Test:
    if term["absent"]:
        unwanted = term["absent"].lstrip("! ")
        return lambda labels: unwanted not in labels
    if term["set"]:
        key, negated = term["set"], term["how"] == "notin"
        values = {value.strip() for value in (term["values"] or "").split(",")}
        return lambda labels: (labels.get(key) in values) != negated
    if term["key"]:
        key, value = term["key"], term["value"]
        if term["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    wanted = term["present"]
    return lambda labels: wanted in labels


def fields_match(selector: str) -> Test:
    """`metadata.name=x,status.phase!=Running`."""
    tests = []
    for term in filter(None, selector.split(",")):
        parsed = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", term.strip())
        if parsed is None:
            raise bad_request(f"invalid field selector: {selector}")
        tests.append(parsed.groups())

    def fits(item: Mapping[str, Any]) -> bool:
        return all((_field(item, path) == value) == (op != "!=") for path, op, value in tests)

    return fits


def exact_name(selector: str) -> str | None:
    """The name that a field selector asks for, which counts as the request's name to authorization."""
    named = re.search(r"(?:^|,)metadata\.name==?([^,]+)", selector)
    return named.group(1) if named else None


def _field(item: Any, path: str) -> str:
    for key in path.split("."):
        item = item.get(key) if isinstance(item, Mapping) else None
    return "" if item is None else str(item)


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector as the text that `scale`'s status carries."""
    if not selector:
        return ""
    terms = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        if operator in ("In", "NotIn"):
            terms.append((key, f"{key} {operator.lower()} ({','.join(sorted(expression['values']))})"))
        else:
            terms.append((key, key if operator == "Exists" else f"!{key}"))
    return ",".join(text for _, text in sorted(terms))


def selects(selector: Mapping[str, Any] | None) -> Test:
    """Of a LabelSelector: whether an object fits. None selects nothing."""
    if selector is None:
        return lambda _item: False
    return labels_match(selector_text(selector))
