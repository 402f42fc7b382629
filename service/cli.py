"""`minwatt serve`: flags to settings, settings to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from service import event_loop, logs
from service.capture.writer import Mask
from service.fronts.supervisor import supervise
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
            "Model directory, or a shipped model's name; give it again for more models. The first is that of "
            "requests that name none.",
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
        _flag(
            "Batches computed at once.", "one a core, at most 8; a GPU 2, with CUDA graphs 1; 1 in a fleet"
        ),
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
    front_ends: Annotated[
        int | None,
        _flag("Processes that speak gRPC and tokenise, beside the one that computes.", "0: it does all"),
    ] = None,
    metrics_port: Annotated[int | None, _flag("Prometheus port; 0 takes a free one.", "9100")] = None,
    scaler: Annotated[str | None, _flag("HOST:PORT of a scaler to join.")] = None,
    scaler_token_file: Annotated[Path | None, _flag("Its token; read at each joining.")] = None,
    scaler_ca: Annotated[
        Path | None, _flag("PEM: the scaler must have a certificate of this authority.", "plaintext")
    ] = None,
    bus_redis: Annotated[
        str | None, _flag("redis://HOST:PORT/DB where the scaler is met instead; see `minwatt scale`.")
    ] = None,
    bus_redis_password_file: Annotated[Path | None, _flag("Its password; read at each connection.")] = None,
    fleet: Annotated[
        str | None, _flag("Whose replica it is; on Kubernetes NAMESPACE/POLICY.", "default")
    ] = None,
    replica_id: Annotated[
        str | None, _flag("Name in the fleet, unique for each start.", "model-random")
    ] = None,
    tenants: Annotated[
        Path | None, _flag("YAML file: API keys, weights and quotas.", "no keys, no quotas")
    ] = None,
    meter: Annotated[
        str | None, _flag("auto, nvml[:GPU], rapl, modelled[:…], replayed:FILE, agent.", "auto")
    ] = None,
    gpu_clocks: Annotated[
        bool,
        typer.Option(
            "--gpu-clocks",
            help="The scaler may set the GPU's clock (needs root, or --node-agent). [default: left alone]",
        ),
    ] = False,
    node_agent: Annotated[
        Path | None, _flag("Socket of the node agent, which then sets the clock; --meter agent reads there.")
    ] = None,
    node: Annotated[
        str | None, _flag("Name of this machine in reports; one a node, also in pods.", "the host's name")
    ] = None,
    slo: Annotated[str | None, _flag("Latency to hold at the server: queue + compute.", "50ms")] = None,
    max_batch_texts: Annotated[int | None, _flag("Texts a batch.", "16")] = None,
    max_batch_tokens: Annotated[int | None, _flag("Padded tokens a batch.", "1024")] = None,
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
    tls_cert: Annotated[Path | None, _flag("PEM certificate chain: serve over TLS.", "plaintext")] = None,
    tls_key: Annotated[Path | None, _flag("PEM key of the certificate.")] = None,
    tls_client_ca: Annotated[
        Path | None, _flag("PEM: clients must show a certificate of this authority.")
    ] = None,
    max_connection_streams: Annotated[int | None, _flag("Calls at a time on one connection.", "1024")] = None,
    cache_bytes: Annotated[int | None, _flag("Memory for known answers; 0 keeps none.", "0")] = None,
    cache_ttl: Annotated[str | None, _flag("A known answer is kept no longer.", "1h")] = None,
    cache_redis: Annotated[
        str | None, _flag("redis://HOST:PORT/DB: known answers are kept there, for all replicas.")
    ] = None,
    cache_redis_password_file: Annotated[Path | None, _flag("Its password.")] = None,
    cache_key_file: Annotated[
        Path | None, _flag("32 to 64 secret bytes, the same for all replicas that share a Redis.")
    ] = None,
    log_format: Annotated[str | None, _flag("text or json, one line an event.", "text")] = None,
    log_level: Annotated[
        str | None, _flag("debug (a line for each request), info, warning or error.", "info")
    ] = None,
    otlp_endpoint: Annotated[
        str | None, _flag("http://HOST:PORT of an OpenTelemetry collector (gRPC): traces go there.")
    ] = None,
    trace_ratio: Annotated[
        float | None, _flag("Of requests whose caller says nothing about traces, traced.", "1.0")
    ] = None,
    capture: Annotated[
        Path | None, _flag("Folder where requests are recorded, for `minwatt replay --capture`.", "none are")
    ] = None,
    capture_share: Annotated[float | None, _flag("Of requests, recorded.", "1.0")] = None,
    capture_texts: Annotated[
        bool,
        typer.Option("--capture-texts", help="Their texts too, with personal data masked (extra `mask`)."),
    ] = False,
    capture_bytes: Annotated[
        str | None, _flag("Of all files in the folder; then the oldest go.", "1Gi")
    ] = None,
    capture_keep: Annotated[str | None, _flag("A file is kept no longer.", "24h")] = None,
    max_connection_age: Annotated[str | None, _flag("Then a client connects anew, ±10%.", "30s")] = None,
    drain_delay: Annotated[str | None, _flag("Serve on after readiness went off.", "0s")] = None,
    drain_grace: Annotated[str | None, _flag("For requests in flight when draining.", "10s")] = None,
) -> None:
    """One replica: serves a model over gRPC until SIGTERM, then drains.

    Example: minwatt serve --port 8500 --slo 50ms --max-batch-texts 32
    """
    start(ServeSettings.of_flags(**locals()))


def start(settings: ServeSettings, make_mask: Callable[[], Mask] | None = None) -> None:
    """Serves until SIGTERM. `make_mask` is called where texts are captured: they are kept masked only."""
    logs.configure(settings.log_format, settings.log_level)
    if settings.front_ends:
        raise typer.Exit(supervise(settings, _print))
    mask = make_mask() if settings.capture_texts and make_mask is not None else None
    event_loop.run(_serve(settings, mask))


async def _serve(settings: ServeSettings, mask: Mask | None) -> None:
    logs.watch(asyncio.get_running_loop())
    await run(settings, _print, mask=mask)


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output
