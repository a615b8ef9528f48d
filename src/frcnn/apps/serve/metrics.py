"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self):
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "frcnn_requests", "Requests answered", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "frcnn_request_seconds",
            "From a request's head to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.pictures = Counter("frcnn_pictures", "Pictures detected on", registry=registry)
        self.batches = Histogram(
            "frcnn_batch_pictures",
            "Pictures run through the network together",
            buckets=_PICTURES,
            registry=registry,
        )
        self.network_seconds = Histogram(
            "frcnn_network_seconds",
            "The network's time for a batch",
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting = Gauge(
            "frcnn_pictures_waiting", "Pictures read or detected on now", registry=registry
        )

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)
