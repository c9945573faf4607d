"""What the door of the websockets promises, each broken once."""

from mutation import Mutation

ADDRESSES = "app/live/addresses.py"
T_ADDRESSES = ("tests/live/test_addresses.py", "-k", "count or forgotten or badly")

MUTATIONS = (
    Mutation(
        "an address has one socket more than it may",
        ADDRESSES,
        "sockets >= self._sockets_max",
        "sockets > self._sockets_max",
        T_ADDRESSES,
    ),
    Mutation(
        "customers behind a proxy on the own network share one limit",
        ADDRESSES,
        "    if not address.is_global:\n        return None\n",
        "",
        T_ADDRESSES,
    ),
    Mutation(
        "a socket that ends at the door keeps its address's place",
        "app/api/live.py",
        "            await self._meet(scope, receive, send)\n        finally:\n",
        "            await self._meet(scope, receive, send)\n        except OSError:\n",
        T_ADDRESSES,
    ),
)
