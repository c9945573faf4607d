"""Where posts may go: a host is resolved here, its addresses are checked, and one of these is connected to.

What checks a name and connects to it afterwards lets the name change in between. So the connection is made to the very
address that was checked. TLS still verifies the name.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

from app.webhooks.addresses import is_public

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a host and port, as text; blocks. Raises OSError."""


class AddressRefused(Exception):
    """A host is, or has among others, an address that deliveries may not go to."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, in the order in which the system would try them.

    Raises:
        OSError: it has none.

    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedNetwork(AbstractResolver):
    """Addresses and sockets for connections to the internet alone.

    aiohttp asks `resolve` for the addresses of a name, and `open_socket` for a socket to each address that it connects
    to: to one that a URL spells out, without asking for more.

    Args:
        private_targets: lets connections go anywhere.
        resolver: asks for a host's addresses.

    """

    def __init__(self, *, private_targets: bool, resolver: Resolve = resolve) -> None:
        self._private_targets = private_targets
        self._resolver = resolver
        self._resolving: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's own; both are asked for
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            AddressRefused: one of them is not of the internet.
            OSError: it has none.

        """
        addresses = await self._addresses(host, port)
        for address in addresses:
            self._check(address, host)
        return [_result(host, port, address) for address in addresses]

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        """A socket that is connected to an address, and to no other.

        Raises:
            AddressRefused: it is not of the internet.

        """
        family, kind, protocol, _, (host, *_) = address
        self._check(str(host), str(host))
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Nothing: who still waits for a name server is told that none came."""

    def _check(self, address: str, host: str) -> None:
        if not self._private_targets and not is_public(address):
            raise AddressRefused(f"{host} has the address {address}, which is not one of the internet.")

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        """Asks once for all who want to know: a name server that hangs takes one thread for each host."""
        key = (host, port)
        asked = self._resolving.get(key)
        if asked is None:
            asked = self._resolving[key] = asyncio.get_running_loop().create_future()
            asked.add_done_callback(lambda done: self._asked(key, done))
            # A thread of its own: those of the loop are few, and others would wait for this host.
            thread = threading.Thread(target=self._ask, args=(host, port, asked), name="resolver", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there is no room for another one
                del self._resolving[key]
                asked.set_exception(error)
        try:
            addresses = await asyncio.shield(asked)
        except Exception as error:
            why = error.strerror if isinstance(error, socket.gaierror) else str(error)
            raise OSError(f"{host} has no address: {why}") from error
        if not addresses:
            raise OSError(f"{host} has no address.")
        return addresses

    def _asked(self, key: tuple[str, int], done: asyncio.Future[Sequence[str]]) -> None:
        if self._resolving.get(key) is done:
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


def _result(host: str, port: int, address: str) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=0,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
