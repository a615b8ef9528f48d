"""How often one address may ask: a bucket of tokens for each, of bounded number."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

BURST = 2.0  # seconds' worth of requests that may come at once
_MOST_KEPT = 10_000  # addresses


class RateLimit:
    """Counts requests by address.

    Args:
        rate: requests a second in the long run; 0: any number.
    """

    def __init__(self, rate: float):
        self._rate = rate
        self._room = max(1.0, rate * BURST)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def wait_for(self, address: str, now: float) -> float:
        """Take note of a request.

        Args:
            address: of the client.
            now: seconds of a clock that never goes back.

        Returns:
            0 if it may be answered, else the seconds after which another may.
        """
        if not self._rate:
            return 0.0
        key = _network(address)
        tokens, since = self._buckets.pop(key, (self._room, now))
        tokens = min(self._room, tokens + (now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MOST_KEPT:  # the one that has been silent for longest
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rate


def _network(address: str) -> str:
    """What one client has: an IPv4 address, or all 2^64 addresses of an IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped:  # how a socket for both kinds names one of IPv4
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
