"""Which network addresses a download may connect to: a data set must not make us reach inside a network."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from mmgcs.errors import MmgcsError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddressError(MmgcsError):
    """A download led to an address inside a private network, on this machine or of no host at all."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, multicast or reserved.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) is judged by itself.

    >>> is_public("93.184.216.34"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1"), is_public("169.254.169.254")
    (True, False, False, False)
    """
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def public_socket(address_info: tuple[Any, ...]) -> socket.socket:
    """Make a socket for an address that is about to be connected to; the address, not the name, is what is judged.

    Judging here leaves no gap between looking a name up and connecting, which DNS rebinding would use, and covers
    literal addresses and redirects alike.

    Raises:
        PrivateAddressError: the address is not public.
    """
    family, kind, protocol, _, address = address_info
    if not is_public(str(address[0])):
        raise PrivateAddressError(
            f"{address[0]} is a private or local address; give --allow-private if you mean it to be reached"
        )
    return socket.socket(family=family, type=kind, proto=protocol)
