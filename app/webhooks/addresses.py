"""Which addresses are of the internet, and none of this host, its network or its cloud."""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

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
