"""`minwatt up` under a policy whose budget forces another precision variant, while requests come."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import minwatt
from scaler.profile import ServiceTime, StartUp, save_profile
from tests.e2e.test_up import Sender, rows, running, until
from tests.scaler.made_up import power, profile, variant
from tests.tiny_model import write_tiny_model

POLICY = """
apiVersion: minwatt.dev/v1alpha1
kind: PowerPolicy
metadata: {name: tiny}
spec:
  model: tiny-text
  slo: {latency: 500ms}
  power: {budget: 4W, whenOverBudget: [cheaperVariant]}
  replicas: {min: 2, max: 2}
  batching: {maxSize: 1, maxDelay: 0ms}
  variants: {allow: [fp16, int8, fp32]}
  behavior: {tick: 500ms}
"""


def takes(seconds: float) -> ServiceTime:
    return ServiceTime(basis="measured", alpha_s=seconds, beta_s_per_token=1e-6, residual_fraction=0.0)


async def test_a_budget_switches_the_variant_and_no_request_is_lost(tmp_path: Path) -> None:
    """Planned with 40 ms a text of fp16 and 10 ms of int8: at 40 texts a second two replicas of fp16 are over
    the budget.
    """
    write_tiny_model(tmp_path / "tiny-text", variants=("fp16", "int8"))
    made = profile(
        variant(name="fp16", service_time=takes(0.04)),
        variant(name="int8", service_time=takes(0.01), power=power(idle_w=1.0)),
        variant(name="fp32", service_time=takes(0.02)),
        model="tiny-text",
        start_up=StartUp(basis="measured", seconds=1, joules=5),
    )
    save_profile(made, tmp_path / "profile.yaml")
    (tmp_path / "policy.yaml").write_text(POLICY)
    record = tmp_path / "record"
    files = {"policy": "policy.yaml", "profile": "profile.yaml", "record": "record", "model": "tiny-text"}
    flags = [word for flag, name in files.items() for word in (f"--{flag}", str(tmp_path / name))]

    def decisions() -> list[dict[str, Any]]:
        return rows(record, "decisions")

    def asked() -> list[str]:
        return [row["operating_point"]["variant"] for row in decisions() if row["operating_point"]]

    with running(*flags, "--meter", "modelled", "--metrics-port", "0", "--port", "0") as (_, said):
        assert any(line.startswith("variant fp32 is left out: ") for line in said), "the model lists it alone"
        target = said[-1].split()[2]
        sender = Sender(target)
        sending = asyncio.create_task(sender.run())

        async def answering() -> set[str]:
            replies = []
            for _ in range(6):  # each on a connection of its own, so that both replicas are asked
                async with minwatt.AsyncClient(target, timeout_s=10.0) as client:
                    replies.append(await client.classify(["where is my card?"]))
            return {reply.model.variant for reply in replies}

        await until(lambda: rows(record)[-1]["arrivals_rps"], "traffic is seen")
        assert await answering() == {"fp16"}
        sender.rate_rps = 40.0
        await until(lambda: "int8" in asked(), "the cheaper variant is asked for")
        seen: set[str] = set()
        async with asyncio.timeout(60):
            while seen != {"int8"}:
                seen = await answering()
        answered = sender.answered
        await until(lambda: sender.answered > answered + 20, "answers by the new variant")
        sending.cancel()
        assert await sender.finish() == 0
    at = asked().index("int8")
    why = [reason for reason in decisions()[at]["reasons"] if reason["code"] == "variant"]
    assert "int8 in the place of fp16: with fp16 no fleet within bounds and budget holds the SLO" in str(why)
    assert not any("not_acted_on" in str(row["reasons"]) for row in decisions())
