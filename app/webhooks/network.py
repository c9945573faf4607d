"""Where deliveries may go: a host is resolved here, its addresses are checked, and one of these is connected to.

What checks a name and connects to it afterwards lets the name change in between. So the connection is made to the very
address that was checked. TLS still verifies the name.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

import httpcore

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host and port, as text; blocks. Raises OSError."""

_NOT_PUBLIC: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 is this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocols
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL: Final = IPv6Network("2000::/3")
"""The only addresses of IPv6 that are given out; beside it lie loopback, link-local, unique local and multicast."""
_NOT_GLOBAL: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols: Teredo, which holds an address of IPv4, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an address of IPv4
        "3fff::/20",  # documentation
    )
)
_HOLDS_IPV4: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""Mapped addresses, and what a translator in front of the IPv4 internet (NAT64) is asked for: judged by the IPv4."""


class AddressRefused(Exception):
    """A host is, or has among others, an address that deliveries may not go to."""


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, and none of this host, its network or its cloud.

    Args:
        address: as text. What is no address is not public, and neither is one with a scope.

    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return _is_public_ipv4(parsed)
    if parsed.scope_id is not None:
        return False
    if any(parsed in network for network in _HOLDS_IPV4):
        return _is_public_ipv4(IPv4Address(int(parsed) & 0xFFFF_FFFF))
    return _is_global(parsed)


def _is_public_ipv4(address: IPv4Address) -> bool:
    return not any(address in network for network in _NOT_PUBLIC)


def _is_global(address: IPv6Address) -> bool:
    return address in _GLOBAL and not any(address in network for network in _NOT_GLOBAL)


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, in the order in which the system would try them.

    Raises:
        OSError: it has none.

    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connections to public addresses alone.

    Args:
        private_targets: lets them go anywhere.
        connect_seconds_max: for each address of a host.
        resolver: asks for a host's addresses.

    """

    def __init__(self, *, private_targets: bool, connect_seconds_max: float, resolver: Resolve = resolve) -> None:
        self._private_targets = private_targets
        self._connect_seconds_max = connect_seconds_max
        self._resolver = resolver
        self._resolving: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's own; each address has ours
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects to one of a host's addresses.

        Raises:
            AddressRefused: it is none of the internet, or has one that is not.
            httpcore.NetworkError, httpcore.TimeoutException: it has none, or none could be connected to.

        """
        addresses = await self._addresses(host, port)
        if not self._private_targets:
            refused = [address for address in addresses if not is_public(address)]
            if refused:
                raise AddressRefused(f"{host} has the address {refused[0]}, which is not one of the internet.")
        failed: Exception = httpcore.ConnectError(f"{host} has no address.")
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address,
                    port,
                    timeout=self._connect_seconds_max,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failed = error
        raise failed

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        """Asks once for all who want to know: a name server that hangs takes one thread for each host."""
        key = (host, port)
        asked = self._resolving.get(key)
        if asked is None:
            asked = self._resolving[key] = asyncio.get_running_loop().create_future()
            asked.add_done_callback(lambda done: self._asked(key, done))
            # A thread of its own: those of the loop are few, and others would wait for this host.
            threading.Thread(target=self._ask, args=(host, port, asked), name="resolver", daemon=True).start()
        try:
            return await asyncio.shield(asked)
        except Exception as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from error

    def _asked(self, key: tuple[str, int], done: asyncio.Future[Sequence[str]]) -> None:
        del self._resolving[key]
        if not done.cancelled():
            done.exception()  # it may be that nobody waits for it any more

    def _ask(self, host: str, port: int, asked: asyncio.Future[Sequence[str]]) -> None:
        try:
            addresses = self._resolver(host, port)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            self._tell(asked, asked.set_exception, error)
        else:
            self._tell(asked, asked.set_result, addresses)

    @staticmethod
    def _tell(asked: asyncio.Future[Sequence[str]], say: Callable[[Any], None], what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            asked.get_loop().call_soon_threadsafe(say, what)
