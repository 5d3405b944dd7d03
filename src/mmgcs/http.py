"""The HTTP client for posters, word vectors and look-ups: rate limits, retries, size limits, public addresses only."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import http.cookiejar
import ipaddress
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import anyio
import httpcore2
import httpx2
import tenacity
from aiolimiter import AsyncLimiter
from anyio.from_thread import start_blocking_portal

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import sha256 as file_sha256

ByteProgress = Callable[[int, int | None], None]
"""Called with the number of bytes downloaded so far, and the total if known."""

T = TypeVar("T")

TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which a retry may succeed."""


class FetchError(Exception):
    """An address could not be fetched. The message is a short reason.

    Attributes:
        status: the HTTP status; 0 if there was no response.
        temporary: True if a retry may succeed.
        tries: the number of attempts.
    """

    def __init__(self, reason: str, *, status: int = 0, temporary: bool = False) -> None:
        super().__init__(reason)
        self.status, self.temporary, self.tries = status, temporary, 1


def is_public(address: str) -> bool:
    """Return True if an IP address is on the public internet: a public IPv4 address, or one in IPv6's 2000::/3.

    An IPv4 address embedded in an IPv6 one (mapped, 6to4, NAT64) is checked as IPv4.

    >>> is_public("93.184.216.34"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1"), is_public("fec0::1")
    (True, False, False, False)
    """
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if ip in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
        return ip in ipaddress.ip_network("2000::/3") and ip.is_global
    return ip.is_global and not ip.is_multicast


def retry_after(value: str) -> float:
    """Return the seconds that a `Retry-After` header, a number or a date, asks to wait; 0 if it is not valid.

    >>> retry_after("2"), retry_after("soon")
    (2.0, 0.0)
    """
    with contextlib.suppress(ValueError, OverflowError):
        if value.strip().isdigit():
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0


@dataclass(frozen=True, slots=True)
class WebOptions:
    """How a `WebClient` fetches.

    Attributes:
        concurrency: requests at the same time.
        rate: requests per second to one host; 0 for no limit.
        retries: retries after a temporary failure (timeouts, 429, 5xx, broken connections).
        backoff: the longest wait in seconds before the first retry; doubled for each further one.
        max_wait: the longest wait in seconds before a retry; if the server asks for more, the request fails.
        timeout: seconds for a whole response, so that a server cannot stall by sending byte by byte; for `download`,
            seconds without a byte.
        max_bytes: larger responses are refused.
        max_redirects: redirects followed in a row.
        allow_private: True to allow private and local addresses.
    """

    concurrency: int = 20
    rate: float = 200.0
    retries: int = 4
    backoff: float = 0.5
    max_wait: float = 60.0
    timeout: float = 30.0
    max_bytes: int = 20 * 2**20
    max_redirects: int = 5
    allow_private: bool = False


class WebClient:
    """An asynchronous HTTP client. Use it as an async context manager, within one event loop."""

    def __init__(self, options: WebOptions) -> None:
        self._options = options
        limits = httpx2.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency)
        self._client = httpx2.AsyncClient(
            transport=None if options.allow_private else _public_transport(options.concurrency),
            limits=limits,
            timeout=httpx2.Timeout(options.timeout, connect=10.0, pool=None),
            headers={"User-Agent": "mmgcs", "Accept-Encoding": "identity"},
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),  # keep none
            follow_redirects=options.max_redirects > 0,
            max_redirects=options.max_redirects,
            event_hooks={"response": [_refuse_downgrade]},
        )
        self._slots = asyncio.Semaphore(options.concurrency)
        self._limiters: dict[str, AsyncLimiter] = {}
        self._quiet_until: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> bytes:
        """Return the body at an address.

        Raises:
            FetchError: the response is not HTTP 200, too large or incomplete, or the address is refused.
        """

        async def once() -> bytes:
            async with self._answer(url, headers, self._options.timeout) as response:
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > self._options.max_bytes:
                        raise FetchError(f"larger than {self._options.max_bytes:,} bytes")
                return bytes(body)

        return await self._retry(once)

    async def download(self, url: str, part: Path, progress: ByteProgress) -> None:
        """Download a large file to `part`, resuming what an earlier attempt left there. Raises as `get` does.

        Args:
            url: the address.
            part: where it goes. A file next to it records the version being downloaded.
            progress: called as bytes arrive.
        """

        async def once() -> None:
            have, version = _resume_point(part, url)
            headers = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
            try:
                async with self._answer(url, headers, None) as response:
                    await self._save(response, url, part, have, progress)
            except FetchError as error:
                if error.status == 416:  # the server's file is shorter than the part
                    _forget(part)
                    error.temporary = True
                raise

        await self._retry(once)

    async def _save(self, response: httpx2.Response, url: str, part: Path, have: int, progress: ByteProgress) -> None:
        """Append a response to the `have` bytes in `part`, or start the file again."""
        if response.status_code != 206:
            have = 0
            _forget(part)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            _forget(part)
            raise FetchError("the server sent a different range than requested", temporary=True)
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        tag = response.headers.get("ETag", "")
        # A weak tag does not promise the same bytes, so it cannot be used to resume.
        version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        _state(part).write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
        with part.open("ab") as handle:
            progress(have, total)
            try:
                async for chunk in response.aiter_raw():
                    have += len(chunk)
                    if have > self._options.max_bytes:
                        _forget(part)
                        raise FetchError(f"it sends more than {self._options.max_bytes:,} bytes")
                    handle.write(chunk)
                    progress(have, total)
            except (httpx2.NetworkError, httpx2.ProtocolError):  # what arrived is kept
                of = "" if total is None else f" of {total:,}"
                raise FetchError(f"the connection closed after {have:,}{of} bytes", temporary=True) from None

    @asynccontextmanager
    async def _answer(
        self, url: str, headers: Mapping[str, str] | None, limit: float | None
    ) -> AsyncIterator[httpx2.Response]:
        """Yield a response of status 200 or 206, within `limit` seconds; every error becomes a FetchError."""
        try:
            host = urlsplit(url).netloc
            async with self._slots:
                await self._wait_for_turn(host)
                async with asyncio.timeout(limit), self._client.stream("GET", url, headers=headers) as response:
                    if response.status_code not in (200, 206):
                        raise self._refused(response, host)
                    yield response
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise _reason(error, self._options) from error

    async def _wait_for_turn(self, host: str) -> None:
        """Wait as long as the host has asked for, and then for its rate limit."""
        while (wait := self._quiet_until.get(host, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if self._options.rate:
            await self._limiters.setdefault(host, AsyncLimiter(1, 1 / self._options.rate)).acquire()

    def _refused(self, response: httpx2.Response, host: str) -> FetchError:
        """Return the error for a response's status, and let requests to its host pause if it asks to wait."""
        status, reason = response.status_code, f"HTTP {response.status_code}"
        if status not in TEMPORARY:
            return FetchError(reason, status=status)
        wait = retry_after(response.headers.get("Retry-After", ""))
        if wait > self._options.max_wait:
            return FetchError(f"{reason}, and the server asks to wait {wait:,.0f} s", status=status)
        self._quiet_until[host] = max(self._quiet_until.get(host, 0.0), time.monotonic() + wait)
        return FetchError(reason, status=status, temporary=True)

    async def _retry(self, once: Callable[[], Awaitable[T]]) -> T:
        """Call `once` until it succeeds, with a random, exponentially growing wait after each temporary failure."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, FetchError) and error.temporary),
            stop=tenacity.stop_after_attempt(self._options.retries + 1),
            wait=tenacity.wait_random_exponential(multiplier=self._options.backoff, max=self._options.max_wait),
            reraise=True,
        )
        try:
            return await retrying(once)
        except FetchError as error:
            error.tries = retrying.statistics["attempt_number"]
            raise


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    options: WebOptions | None = None,
    progress: ByteProgress = lambda done, total: None,
) -> Path:
    """Download a file unless it is already there. An interrupted download stays in `path.part` and is resumed.

    Args:
        url: an http or https address. The user gave it, so it may be private. Certificates are verified.
        path: where the file goes once it is complete and checked.
        sha256: its SHA-256 in hexadecimal, if known.
        options: how to fetch; by default at most 4 GiB.
        progress: called as bytes arrive.

    Raises:
        UsageError: the address is not a web address.
        MmgcsError: the download failed, or the file is not the expected one.
    """

    def is_expected(file: Path) -> bool:
        return sha256 is None or file_sha256(file) == sha256.lower()

    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not a web address; give one that begins with https://")
    if path.is_file() and is_expected(path):
        return path
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)

    async def fetch() -> None:
        async with WebClient(options or WebOptions(allow_private=True, max_bytes=4 * 2**30)) as client:
            await client.download(url, part, progress)

    try:
        with start_blocking_portal() as portal:  # in a notebook, this thread already runs another loop
            portal.call(fetch)
    except FetchError as error:
        if error.temporary:
            raise MmgcsError(f"{url} could not be downloaded ({error}); run the same command again to resume") from None
        raise MmgcsError(f"{url}: {error}; check the address, or download the file by hand") from None
    if not is_expected(part):
        _forget(part)
        raise MmgcsError(f"{url} is not the expected file: its SHA-256 is not {sha256}; check the address")
    part.replace(path)
    _forget(part)
    return path


class _PublicNetwork(httpcore2.AsyncNetworkBackend):
    """Resolve names, and connect only to public addresses.

    It connects to the very address that was checked, so DNS rebinding cannot get past it. Redirects and literal
    addresses are checked too.
    """

    def __init__(self) -> None:
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first public address of a host that answers."""
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise FetchError("unknown host", temporary=True) from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        public = [address for address in addresses if is_public(address)]
        if not public:
            raise FetchError(f"refused: {addresses[0]} is a private or local address")
        for address in public[:-1]:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
        return await self._network.connect_tcp(public[-1], port, timeout, local_address, socket_options)


def _public_transport(connections: int) -> httpx2.AsyncHTTPTransport:
    context = httpx2.create_ssl_context()
    transport = httpx2.AsyncHTTPTransport(verify=context)
    # httpcore's pool takes a network backend; httpx's transport has no parameter to pass one on.
    transport._pool = httpcore2.AsyncConnectionPool(
        ssl_context=context,
        max_connections=connections,
        max_keepalive_connections=connections,
        network_backend=_PublicNetwork(),
    )
    return transport


async def _refuse_downgrade(response: httpx2.Response) -> None:
    """Refuse redirects from https to http, where anyone on the way could replace the file."""
    if response.has_redirect_location and response.url.scheme == "https":
        target = response.url.join(response.headers["Location"])
        if target.scheme != "https":
            raise FetchError(f"it redirects from https to {target}, which is not https")


def _reason(error: Exception, options: WebOptions) -> FetchError:
    """Turn an error of the HTTP library into a FetchError with a short reason."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return FetchError("the server's certificate is not valid")
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return FetchError(f"no complete response within {options.timeout:g} s", temporary=True)
    if isinstance(error, httpx2.TooManyRedirects):
        return FetchError(f"more than {options.max_redirects} redirects")
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL | ValueError):
        return FetchError("the address is not a web address")
    if isinstance(error, httpx2.ConnectError):
        return FetchError(f"no connection ({error})", temporary=True)
    return FetchError(f"the connection broke ({error})", temporary=True)


def _resume_point(part: Path, url: str) -> tuple[int, str]:
    """Return the number of bytes already downloaded and the version they belong to; (0, "") to start again."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads(_state(part).read_text(encoding="utf-8"))
        if state["url"] == url and state["version"]:
            return part.stat().st_size, str(state["version"])
    return 0, ""


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)
