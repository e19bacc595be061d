"""Clients are told apart, as each has a share of the queue of its own."""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import Request

from octorec.serve.config import HttpOptions

LONGEST = 128  # characters of a client's name that count
NETWORK = 64  # bits of an IPv6 address that one client is given


class Clients:
    """Clients tells them apart: by the header of a listed proxy, else by their token, else by their address."""

    def __init__(self, options: HttpOptions):
        self.header = options.client_header
        networks = options.networks
        self._trusts = lru_cache(4096)(lambda host: any(_inside(host, network) for network in networks))

    def name(self, request: Request, holder: str) -> str:
        """Return the name of the client whose request it is; of several in the header the last, which is the proxy's.

        holder: of the token that was checked; empty where none is asked for.
        """
        host = request.client.host if request.client else ""
        if self._trusts(host) and (given := request.headers.getlist(self.header)):
            return "proxied " + given[-1].rpartition(",")[2].strip()[:LONGEST]
        return holder or _of_one(host)


@lru_cache(4096)
def _of_one(host: str) -> str:
    """Return the address, of IPv6 the network, that one client has."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, NETWORK), strict=False))
    return host


def _inside(host: str, network: IPv4Network | IPv6Network) -> bool:
    try:
        return ip_address(host) in network
    except ValueError:  # no address: a socket of another kind
        return False
