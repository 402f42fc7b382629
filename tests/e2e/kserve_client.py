"""Asks a replica with KServe's own client and prints what came, as JSON. Run by `test_kserve`.

.kserve/bin/python tests/e2e/kserve_client.py HOST:PORT MODEL
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest  # type: ignore[import-not-found,unused-ignore]

TEXTS = ["where is my card", "alice lives in paris"]


async def asked(target: str, model: str) -> dict[str, Any]:
    async with InferenceGRPCClient(target) as client:
        states = [await client.is_server_live(), await client.is_server_ready()]
        states.append(await client.is_model_ready(f"{model}.intent"))
        typed = InferInput("TEXT", [len(TEXTS)], "BYTES", TEXTS)
        intents = await client.infer(InferRequest(f"{model}.intent", [typed], request_id="typed"))
        raw = InferInput("TEXT", [len(TEXTS), 1], "BYTES")
        array = np.array([[text.encode()] for text in TEXTS], dtype=object)
        raw.set_data_from_numpy(array, binary_data=True)
        options = {"no_cache": True}
        entities = await client.infer(
            InferRequest(f"{model}.entity", [raw], request_id="raw", parameters=options)
        )
        try:
            await client.infer(InferRequest("absent", [typed]))
        except grpc.RpcError as error:
            refused = error.code().name
    return {"states": states, "intents": told(intents), "entities": told(entities), "refused": refused}


def told(reply: Any) -> dict[str, Any]:
    values = {output.name: output.as_numpy().ravel().tolist() for output in reply.outputs}
    read = {
        name: [one.decode() if isinstance(one, bytes) else one for one in row] for name, row in values.items()
    }
    return {"id": reply.id, "model": [reply.model_name, reply.model_version], **read}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(asked(*sys.argv[1:3]))))  # noqa: T201 - what it is run for
