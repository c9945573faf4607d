"""The open sockets of each client address, so that one client cannot take up what all share."""

import ipaddress
import logging
import math
import time
from typing import Final

from app.config import Limits
from app.errors import TooManyConnections

log = logging.getLogger("chargly.live")

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""How a network of IPv6 alone sees clients of IPv4."""
_IPV6_CLIENT_BITS: Final = 64
"""What one client of IPv6 may choose of its address by itself."""


def counted_address(client: str | None) -> str | None:
    """What a client's sockets are counted under, None where they are not counted.

    A peer with a private or loopback address is a proxy or in our own network. Behind a proxy that is not trusted to
    name its clients come any number of customers, and a limit would shut them all out.

    Args:
        client: its address as it is written; None on a unix socket.

    """
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:  # a unix socket's path, or what a proxy writes of a client that it does not know
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or _behind_nat64(address) or address
    if not address.is_global:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address), _IPV6_CLIENT_BITS), strict=False))


def _behind_nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(address.packed[-4:]) if address in _NAT64 else None


class Addresses:
    """How many sockets each counted address has in this process.

    Args:
        sockets_max: of one address; 0 for no limit.
        limits: `live_goodbyes_per_second` and `live_address_warning_seconds`.

    """

    def __init__(self, sockets_max: int, limits: Limits) -> None:
        self._sockets_max = sockets_max
        self._limits = limits
        self._sockets: dict[str, int] = {}
        self._next_goodbye_at = 0.0
        self._warned_at = -math.inf

    def __len__(self) -> int:
        """The addresses that have any."""
        return len(self._sockets)

    def take_place(self, address: str | None) -> None:
        """Counts one more socket; none where there is no address to count.

        Raises:
            TooManyConnections: the address has as many as it may, and nothing was counted.

        """
        if address is None:
            return
        sockets = self._sockets.get(address, 0)
        if self._sockets_max and sockets >= self._sockets_max:
            self._warn(address)
            raise TooManyConnections
        self._sockets[address] = sockets + 1

    def give_back_place(self, address: str | None) -> None:
        """Counts one socket less. An address is forgotten with its last one."""
        if address is None:
            return
        left = self._sockets[address] - 1
        if left:
            self._sockets[address] = left
        else:
            del self._sockets[address]

    def may_say_goodbye(self) -> bool:
        """Whether a socket over the limit may still be accepted, to be closed with a code."""
        now = time.monotonic()
        if self._next_goodbye_at > now:
            return False
        # What was not used of the last second may be used at once.
        self._next_goodbye_at = max(self._next_goodbye_at, now - 1) + 1 / self._limits.live_goodbyes_per_second
        return True

    def _warn(self, address: str) -> None:
        # Who is refused tries again, so a line for each refusal would let one client fill the log.
        now = time.monotonic()
        if now - self._warned_at < self._limits.live_address_warning_seconds:
            return
        self._warned_at = now
        log.warning(
            "%s has %d open websockets, as many as CHARGLY_SOCKETS_PER_ADDRESS allows; further ones are refused. "
            "If it is a proxy, let it pass on its clients' addresses and name it in FORWARDED_ALLOW_IPS.",
            address,
            self._sockets_max,
        )
