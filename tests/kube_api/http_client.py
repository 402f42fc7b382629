"""Bare requests to the stand-in, for what the kubernetes client would hide: statuses, headers, streams."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import urllib3

from tests.kube_api.stand_in import KubeApi


@dataclass(frozen=True)
class Reply:
    code: int
    body: Any
    """Parsed; of a watch the list of its events."""
    headers: urllib3.HTTPHeaderDict


class Asking:
    """As one user: the administrator, a token of another, or nobody (`token=None`)."""

    def __init__(self, api: KubeApi, token: str | None = "admin") -> None:
        self._api = api
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if token == "admin":
            self._headers = {"Authorization": f"Bearer {api.token()}"}
        self._pool = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED", ca_cert_data=api.authority_pem.decode(), retries=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._pool.clear()

    def __call__(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **headers: str
    ) -> Reply:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given["Content-Type"] = content_type
        answer = self._pool.request(
            method,
            self._api.url + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={**self._headers, **given},
            timeout=30.0,
        )
        text = answer.data.decode()
        if "watch=" in path:
            return Reply(answer.status, [json.loads(line) for line in text.splitlines()], answer.headers)
        try:
            return Reply(answer.status, json.loads(text), answer.headers)
        except ValueError:
            return Reply(answer.status, text, answer.headers)
