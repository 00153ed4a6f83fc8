"""Metrics for Prometheus, under OpenTelemetry's names for generative AI where it has them.

Names: semantic-conventions-genai v0.1.0, all of them still in development there (read 2026-11-23); dots become
underscores, and units go last, as Prometheus wants it. They have moved before: this module is the only place for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from antiphon.chat.usage import Usage
from antiphon.server.exchange import Exchange

__all__ = ["Metrics"]

_SECONDS = tuple(0.01 * 2**n for n in range(14))
"""Upper bounds of what is counted together, 10 ms to 82 s: those that OpenTelemetry names."""
_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""OpenTelemetry's names of providers, where they are others than ours."""
_COUNTED: Mapping[str, str] = {
    "prompt_tokens": "gen_ai_client_inference_usage_input_tokens",
    "completion_tokens": "gen_ai_client_inference_usage_output_tokens",
    "input_cache_read": "gen_ai_client_inference_usage_cache_read_input_tokens",
    "input_cache_write": "gen_ai_client_inference_usage_cache_write_input_tokens",
    "output_reasoning": "gen_ai_client_inference_usage_reasoning_output_tokens",
}
"""Counters by the field of `Usage` that they add up."""


_MAX_MODELS = 100
"""Models without an alias that have a label of their own; each takes some 70 lines."""
_MAX_LABEL = 100
"""Characters."""
_OTHER = "other"


class Metrics:
    """What Prometheus is told of the requests.

    Args:
        shared: Whether several processes put their figures together, in the folder that their environment names.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._models: set[str] = set()
        self._registry = registry = CollectorRegistry()
        labels = (*_LABELS, "error_type")
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds", "From request to last byte.", labels, registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self._first = Histogram(
            "gen_ai_server_time_to_first_token_seconds", "From request to the first piece of a streamed answer.",
            _LABELS, registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._each = Histogram(
            "gen_ai_server_time_per_output_token_seconds", "Between two tokens after the first.", _LABELS,
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._tokens = {
            field: Counter(name, "Tokens, as the provider counts them.", _LABELS, registry=registry)
            for field, name in _COUNTED.items()
        }
        self._answers = Counter(
            "antiphon_http_requests", "Requests, by status and how they ended.", ("status", "outcome"),
            registry=registry,
        )  # fmt: skip
        self._under_way = Gauge(
            "antiphon_http_requests_under_way", "Requests that are being answered.", registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip

    def begun(self) -> None:
        """Take note of a request that came."""
        self._under_way.inc()

    def done(self, exchange: Exchange) -> None:
        """Take note of a request that is over."""
        self._under_way.dec()
        self._answers.labels(str(exchange.status), exchange.outcome).inc()
        if not exchange.provider:
            return
        model = self._label(exchange) if exchange.outcome == "ok" else ""
        labels = (exchange.operation, _PROVIDERS.get(exchange.provider, exchange.provider), model)
        failed = "" if exchange.outcome == "ok" else exchange.error or exchange.outcome
        self._duration.labels(*labels, failed).observe(exchange.seconds)
        usage = exchange.usage or Usage()
        for field, counter in self._tokens.items():
            if count := getattr(usage, field):
                counter.labels(*labels).inc(count)
        if exchange.streamed and exchange.first is not None:
            self._first.labels(*labels).observe(exchange.first)
            if (tokens := usage.completion_tokens or 0) > 1:
                self._each.labels(*labels).observe((exchange.seconds - exchange.first) / (tokens - 1))

    def _label(self, exchange: Exchange) -> str:
        """Return the label of the model that answered.

        Whatever a client writes could become a label, and stay. So it is the alias as it is configured, or else
        provider and model; of these only so many, as there are providers that answer under any name.
        """
        if exchange.alias is not None:
            return exchange.alias
        model = f"{exchange.provider}/{exchange.upstream_model}"[:_MAX_LABEL]
        if model not in self._models:
            if len(self._models) >= _MAX_MODELS:
                return _OTHER
            self._models.add(model)
        return model

    def written(self) -> tuple[bytes, str]:
        """Return them as Prometheus reads them, and the content type of that."""
        registry = self._registry
        if self._shared:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
