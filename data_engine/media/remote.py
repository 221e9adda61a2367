"""Media on other machines: fetched only where a recipe allows it, with limits, and never from a private network."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from string import punctuation
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from pydantic import Field, PositiveFloat, PositiveInt

from mmrl.core.config import Config
from mmrl.core.files import write_atomic
from mmrl.core.media.files import MediaError

logger = logging.getLogger(__name__)

PIECE = 2**16
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 address stands in the last four bytes
GIVEN_OUT = ipaddress.IPv6Network("2000::/3")  # all addresses of IPv6 that the registries give out
EXAMPLES = ipaddress.IPv6Network("3fff::/20")  # of documentation; Python before 3.13 does not know it
PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")  # of which Python before 3.13 knows a part only
MOVED = (301, 302, 303, 307, 308)
Allowed = Callable[[str], bool]


class Remote(Config):
    """Limits of fetching: from which hosts, how much, how long, and where files are kept."""

    cache: Path  # the folder of fetched files; what is there is not fetched again
    hosts: list[str] = Field(min_length=1)  # "example.org" allows its subdomains, too; "*" allows any public host
    max_bytes: PositiveInt = 100 * 2**20  # of one file
    seconds: PositiveFloat = 30.0  # for one file, redirects included
    redirects: int = Field(default=3, ge=0)


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet: not to this machine, a private network or a cloud's metadata.

    >>> list(map(is_public, ("93.184.216.34", "127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1")))
    [True, False, False, False, False]
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(ip.packed[-4:]) if ip in NAT64 else None
        inner = ip.ipv4_mapped or ip.sixtofour or translated
        if inner is None and (ip not in GIVEN_OUT or ip in EXAMPLES):
            return False
        ip = inner or ip
    return ip.is_global and not ip.is_multicast and ip not in PROTOCOLS


def fetched(url: str, limits: Remote, *, allowed: Allowed = is_public) -> Path:
    """The cached file of an http or https address, fetched if needed; MediaError (`remote`) if that fails."""
    place = limits.cache / hashlib.sha256(url.encode("utf-8", "backslashreplace")).hexdigest()
    if place.is_file():
        return place
    timer = _Deadline(limits.seconds)
    try:
        content = _content(url, limits, allowed, timer)
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = f"not within {limits.seconds:g} seconds" if timer.passed else f"{type(error).__name__}: {error}"
        raise MediaError("remote", f"{url:.200} was not fetched: {late}") from None
    finally:
        timer.end()
    write_atomic(place, content, durable=False)
    return place


class _Deadline:
    """Closes the open connection when the time is over: a server could send single bytes for ever."""

    def __init__(self, seconds: float) -> None:
        self.passed, self.seconds, self._socket = False, seconds, None
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        """The connection to close."""
        self._socket = connected
        if self.passed:
            self._pass()

    def end(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                logger.debug("the connection was closed already: %s", error)


def _content(url: str, limits: Remote, allowed: Allowed, timer: _Deadline) -> bytes:
    for _ in range(limits.redirects + 1):
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(f"{url:.200} is not an http or https address")
        if not any(name in ("*", host) or host.endswith(f".{name}") for name in map(str.lower, limits.hosts)):
            raise ValueError(f"the host {host} is not one of {', '.join(limits.hosts)}")
        connection = _connection(parts, host, allowed, timer)
        try:
            path = quote(parts._replace(scheme="", netloc="", fragment="").geturl(), safe=punctuation) or "/"
            connection.request("GET", path, headers={"User-Agent": "mmrl", "Accept-Encoding": "identity"})
            response = connection.getresponse()
            if response.status in MOVED:
                url = urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise ValueError(f"the server answered {response.status} {response.reason}")
            return _read(response, limits.max_bytes, timer)
        finally:
            connection.close()
    raise ValueError(f"more than {limits.redirects} redirects")


def _connection(parts: SplitResult, host: str, allowed: Allowed, timer: _Deadline) -> http.client.HTTPConnection:
    """A connection to an address that was checked, not to a name that could point elsewhere a moment later."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if refused := [address for address in addresses if not allowed(address)]:
        raise ValueError(f"{host} is at {refused[0]}, which is not on the public internet")
    plain = socket.create_connection((addresses[0], port), timeout=timer.seconds)
    timer.watch(plain)
    connection = http.client.HTTPConnection(host, port, timeout=timer.seconds)
    secure = parts.scheme == "https"
    connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
    if secure:
        timer.watch(connection.sock)
    return connection


def _read(response: http.client.HTTPResponse, most: int, timer: _Deadline) -> bytes:
    content = bytearray()
    while piece := response.read(PIECE):
        content += piece
        if len(content) > most:
            raise ValueError(f"it has more than {most} bytes")
    if timer.passed:
        raise TimeoutError
    if response.length:
        raise ValueError(f"{response.length} bytes are missing")
    return bytes(content)
