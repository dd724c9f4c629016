"""How near an address is: nobody out there may lead a request further in than he is himself."""

from __future__ import annotations

import ipaddress
import socket
from enum import IntEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Where clouds tell their machines the keys that these have, beside the link-local 169.254.169.254.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))
_METADATA_NAMES = ("metadata.google.internal", "metadata")


class Nearness(IntEnum):
    """Where an address can be reached from."""

    PUBLIC = 0
    PRIVATE = 1
    THIS_MACHINE = 2
    LINK_OR_METADATA = 3


def nearness(host: str, *, by_name: bool = True) -> Nearness:
    """Return the nearest of the addresses that a host has; public if it has none that is known.

    Parameters
    ----------
    host
        A name, or an address in any spelling that the system takes for one.
    by_name
        Whether names are looked up. Those that a proxy is asked for, it looks up itself.
    """
    if host.rstrip(".").lower() in _METADATA_NAMES:
        return Nearness.LINK_OR_METADATA
    try:
        flags = 0 if by_name else socket.AI_NUMERICHOST
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return Nearness.PUBLIC
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    return max(map(_nearness, addresses), default=Nearness.PUBLIC)


def _nearness(address: Address) -> Nearness:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_link_local or address in _METADATA:
        return Nearness.LINK_OR_METADATA
    if address.is_loopback or address.is_unspecified:
        return Nearness.THIS_MACHINE
    return Nearness.PRIVATE if address.is_private else Nearness.PUBLIC
