"""`minwatt serve`: flags to settings, settings to a server."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.server import run
from service.settings import ServeSettings


def _flag(text: str, default: str | None = None) -> typer.models.OptionInfo:
    shown = "" if default is None else f" [default: {default}]"
    option: typer.models.OptionInfo = typer.Option(help=text + shown)
    return option


def serve(
    model: Annotated[
        list[Path] | None,
        _flag(
            "Model directory; give it again for more models. The first is that of requests that name none.",
            "the shipped support-text",
        ),
    ] = None,
    variant: Annotated[str | None, _flag("Precision variant, of each model.", "the model's own")] = None,
    provider: Annotated[
        str | None, _flag("cpu, cuda or tensorrt; an error where it is missing.", "cpu")
    ] = None,
    engine_threads: Annotated[int | None, _flag("Threads that compute a batch.", "1")] = None,
    engine_workers: Annotated[
        int | None,
        _flag("Batches computed at once.", "one a core, at most 8; 1 on a GPU and with --scaler"),
    ] = None,
    gpu: Annotated[int | None, _flag("Which card CUDA or TensorRT uses.", "0")] = None,
    gpu_memory: Annotated[int | None, _flag("Bytes it may take of the card.", "what is there")] = None,
    cuda_graphs: Annotated[
        bool, typer.Option("--cuda-graphs", help="Capture each batch shape once, then replay it.")
    ] = False,
    tensorrt_precision: Annotated[
        str | None, _flag("fp32, fp16 or int8 (of a graph quantized for it).", "fp32")
    ] = None,
    engine_cache: Annotated[
        Path | None, _flag("Where TensorRT keeps its engines.", "~/.cache/minwatt/engines")
    ] = None,
    host: Annotated[str | None, _flag("Address to listen on.", "127.0.0.1")] = None,
    port: Annotated[int | None, _flag("gRPC port; 0 takes a free one.", "8500")] = None,
    reuse_port: Annotated[
        bool, typer.Option("--reuse-port", help="Share the port with other replicas.")
    ] = False,
    metrics_port: Annotated[int | None, _flag("Prometheus port; 0 takes a free one.", "9100")] = None,
    scaler: Annotated[str | None, _flag("HOST:PORT of a scaler to join.")] = None,
    replica_id: Annotated[
        str | None, _flag("Name in the fleet, unique for each start.", "model-random")
    ] = None,
    meter: Annotated[
        str | None, _flag("auto, nvml[:GPU], rapl, modelled[:…], replayed:FILE.", "auto")
    ] = None,
    gpu_clocks: Annotated[
        bool,
        typer.Option(
            "--gpu-clocks", help="The scaler may set the GPU's clock (needs root). [default: left alone]"
        ),
    ] = False,
    slo: Annotated[str | None, _flag("Latency to hold at the server: queue + compute.", "50ms")] = None,
    max_batch_texts: Annotated[int | None, _flag("Texts a batch.", "16")] = None,
    max_batch_tokens: Annotated[int | None, _flag("Padded tokens a batch.", "2048")] = None,
    max_delay: Annotated[
        str | None, _flag("A text waits no longer for company while a worker is idle.", "0s")
    ] = None,
    max_in_flight: Annotated[int | None, _flag("Requests accepted and not yet answered.", "512")] = None,
    max_queue_texts: Annotated[int | None, _flag("Texts waiting for compute.", "1024")] = None,
    max_texts: Annotated[int | None, _flag("Texts a request.", "256")] = None,
    max_message_bytes: Annotated[int | None, _flag("Bytes a request message.", "1048576")] = None,
    default_deadline: Annotated[str | None, _flag("Of requests that bring none.", "30s")] = None,
    memory_limit: Annotated[
        str | None, _flag("A model that would need more memory isn't loaded, e.g. 400Mi.", "the machine's")
    ] = None,
    max_connection_age: Annotated[str | None, _flag("Then a client connects anew, ±10%.", "30s")] = None,
    drain_delay: Annotated[str | None, _flag("Serve on after readiness went off.", "0s")] = None,
    drain_grace: Annotated[str | None, _flag("For requests in flight when draining.", "10s")] = None,
) -> None:
    """One replica: serves a model over gRPC until SIGTERM, then drains.

    Example: minwatt serve --port 8500 --slo 50ms --max-batch-texts 32
    """
    settings = ServeSettings.of_flags(**locals())
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    asyncio.run(run(settings, on_ready=lambda line: print(line, flush=True)))  # noqa: T201 - the command's output
