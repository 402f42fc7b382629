"""What a contender sees, made by hand for tests of laws."""

from dataclasses import replace

from scaler.simulate.contender import Seen


def seen(now_s: float, **known: object) -> Seen:
    """Ten ready replicas that nothing happens to, but for what is `known`."""
    plain = Seen(
        now_s=now_s,
        span_s=15.0,
        ready=10,
        starting=0,
        draining=0,
        arrivals_rps=0.0,
        completions_rps=0.0,
        rates_1s=(),
        refused_rps=0.0,
        busy_fraction=0.0,
        in_flight=0.0,
        queue_depth=0.0,
        batch_mean=0.0,
        compute_s_per_batch=0.0,
        batches=0.0,
        latency_quantile_s=lambda percentile: 0.0,
        over_slo=0.0,
        watts=0.0,
        data=True,
    )
    return replace(plain, **known)  # type: ignore[arg-type]
