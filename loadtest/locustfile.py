"""Load from many machines through Locust: `locust -f loadtest/locustfile.py --host HOST:PORT`.

Locust's master and workers spread the users; a user sends MINWATT_USER_RPS requests a second. More is in
docs/load-tests.md. Leaves what a user does to `locust_user`. Read by Locust alone: importing Locust turns the
process into one of gevent's.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc.experimental.gevent
from locust import User, task

from loadtest.locust_user import METHODS, Pace, UserOptions, ask, asked
from loadtest.plan import Task
from minwatt.channels import CHANNEL_OPTIONS, Identity
from minwatt.v1.errors import UsageError

grpc.experimental.gevent.init_gevent()  # calls give way to other users while they wait

try:
    OPTIONS = UserOptions.of(os.environ)
    ASKED = asked(OPTIONS)
except UsageError as error:
    sys.exit(f"locustfile: {error}")


def _channel(host: str, who: Identity) -> grpc.Channel:
    options = [*CHANNEL_OPTIONS, *who.options]
    if who.credentials is None:
        return grpc.insecure_channel(host, options)
    return grpc.secure_channel(host, who.credentials, options)


class TextInferenceUser(User):
    """Classifies and extracts, on a connection of its own."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.host is None:
            raise ValueError("--host: missing; allowed: HOST:PORT, e.g. 127.0.0.1:8500")
        try:
            who = OPTIONS.identity(self.host)
        except UsageError as error:
            sys.exit(f"locustfile: {error}")
        self._channel = _channel(self.host, who)
        self._calls: dict[Task, Callable[..., bytes]] = {
            what: partial(self._channel.unary_unary(path), metadata=who.metadata)
            for what, path in METHODS.items()
        }
        self._random = random.Random()
        self._pace = Pace(OPTIONS.rate_rps, time.monotonic(), self._random)

    def wait_time(self) -> float:
        return self._pace.wait_s(time.monotonic())

    @task
    def request(self) -> None:
        # The first one is asked for before any wait.
        time.sleep(self._pace.wait_s(time.monotonic()))
        item, deadline_s = self._random.choice(ASKED.requests)
        told = ask(item, deadline_s, self._pace.take(), self._calls[item.task], time.monotonic)
        self.environment.events.request.fire(**told)

    def on_stop(self) -> None:
        self._channel.close()
