"""Counts of a client's work: calls, replies from the cache, latencies, and failures by cause."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from rewards.chat_client.faults import Cause

KEPT = 10_000  # latencies


@dataclass
class Metrics:
    """Counts since the client was made; latencies are those of the last calls that reached the server."""

    calls: int = 0
    cached: int = 0
    shared: int = 0  # answered by the same question of the same batch
    requests: int = 0  # sent over the network: calls and their retries
    causes: Counter[Cause] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def summary(self) -> dict[str, Any]:
        """The counts, and the 50th, 90th and 99th percentile of the latency in seconds."""
        ranked = sorted(self.seconds)
        latency = {
            f"p{share}": ranked[min(len(ranked) * share // 100, len(ranked) - 1)] for share in (50, 90, 99) if ranked
        }
        counts = {"calls": self.calls, "cached": self.cached, "shared": self.shared, "requests": self.requests}
        return {**counts, "failed": dict(self.causes), "seconds": latency}
