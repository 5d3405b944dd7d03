"""Fetching one large file: resumed where it stopped, checked by size and SHA-256, never left half-written."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import sha256 as file_sha256
from mmgcs.files import write_json
from mmgcs.http import content_length

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """How patient a download is.

    Attributes:
        timeout: seconds without a byte after which the connection is given up.
        min_rate: bytes a second under which a server counts as dripping; judged over `window` seconds.
        window: see `min_rate`.
        retries: further tries, each going on where the last stopped.
        backoff: seconds before the first further try, doubled for each one after it.
    """

    timeout: float = 30.0
    min_rate: float = 10_000.0
    window: float = 30.0
    retries: int = 4
    backoff: float = 1.0


class _BrokenError(Exception):
    """A try that broke off; going on may help."""


def download(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    options: DownloadOptions | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Fetch `url` into `path` unless it is there whole. What has come is kept in `path.part` and gone on with by Range.

    Args:
        url: http or https; certificates are verified.
        path: where the file goes once it is whole and checked.
        size: its size in bytes, where known.
        sha256: its SHA-256 in hexadecimal, where known.
        options: how patient to be.
        progress: called with the bytes that are there, and of how many.

    Raises:
        UsageError: the address is not one of the web.
        MmgcsError: the server refuses, or does not deliver, or what came is not the file that was wanted.
    """
    options = options or DownloadOptions()
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageError(f"{url!r} is no web address; give one that begins with https://")
    if path.is_file() and (size is None or path.stat().st_size == size) and _hash_matches(path, sha256):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    problem = ""
    for attempt in range(options.retries + 1):
        if attempt:
            time.sleep(options.backoff * 2 ** (attempt - 1))
        try:
            _fetch(url, part, size, options, progress)
            break
        except _BrokenError as error:
            problem = str(error)
        except OSError as error:
            raise MmgcsError(
                f"{part} cannot be written ({error.strerror or error}); free space or choose another"
            ) from error
    else:
        raise MmgcsError(
            f"{url} could not be fetched ({problem}); run the same command again to go on where it stopped"
        )
    found = part.stat().st_size
    if size is not None and found != size:
        _forget(part)
        raise MmgcsError(
            f"{url} has {found:,} bytes instead of {size:,}; check --url, or fetch the file by hand for --from"
        )
    if not _hash_matches(part, sha256):
        _forget(part)
        raise MmgcsError(f"{url} is not the expected file: its SHA-256 is not {sha256}; check --url and --sha256")
    part.replace(path)
    _forget(part)
    return path


def _hash_matches(path: Path, sha256: str | None) -> bool:
    if sha256 is None:
        return True
    return file_sha256(path) == sha256.lower()


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _begun(part: Path, url: str) -> tuple[int, str | None]:
    """How many bytes have come, and the tag of the version that they are of; nothing without such a tag."""
    try:
        state = json.loads(_state(part).read_text(encoding="utf-8"))
        have = part.stat().st_size
    except (OSError, ValueError):
        return 0, None
    if not isinstance(state, dict) or state.get("url") != url or not state.get("version"):
        return 0, None
    return have, str(state["version"])


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to http, where anyone could put another file in place."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise MmgcsError(f"{req.full_url} redirects to {newurl}, which is not https; give its address with --url")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, part: Path, size: int | None, options: DownloadOptions, progress: Progress) -> None:
    have, version = _begun(part, url)
    headers = {"User-Agent": "mmgcs", "Accept-Encoding": "identity"}
    if have and version:
        if have == size:
            return
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is checked by `download`
    try:
        response = urllib.request.build_opener(_SafeRedirects).open(request, timeout=options.timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            _forget(part)
            raise _BrokenError("the server's file is shorter than what had come") from None
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _BrokenError(f"HTTP {error.code}") from None
        raise MmgcsError(
            f"{url} answers HTTP {error.code}; check --url, or fetch the file by hand for --from"
        ) from None
    except TimeoutError:
        raise _BrokenError(f"no answer within {options.timeout:g} s") from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
        if isinstance(reason := getattr(error, "reason", None), ssl.SSLCertVerificationError):
            raise MmgcsError(
                f"{url}: the server's certificate is not valid ({reason.verify_message}); check --url and the clock, "
                "or fetch the file by hand for --from"
            ) from None
        raise _BrokenError(str(getattr(error, "reason", error) or type(error).__name__)) from None
    with response:
        going_on = response.status == 206 and _starts_at(response.headers.get("Content-Range"), have)
        have = have if going_on else 0
        length = content_length(response.headers.get("Content-Length"))
        total = None if length is None else have + length
        if size is not None and total is not None and total != size:
            _forget(part)
            raise MmgcsError(
                f"{url} has {total:,} bytes instead of {size:,}; check --url, or fetch it by hand for --from"
            )
        if total is not None and total - have > shutil.disk_usage(part.parent).free:
            raise MmgcsError(
                f"{part.parent} has too little room for {total:,} bytes; free space or choose another folder"
            )
        tag = response.headers.get("ETag")
        # A weak tag does not promise the same bytes, so it is no ground to go on from.
        version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
        if not going_on:
            part.unlink(missing_ok=True)
        write_json(_state(part), {"url": url, "version": version})
        _copy(response, part, have, total or size, options, progress)


def _starts_at(content_range: str | None, start: int) -> bool:
    return bool(content_range) and str(content_range).startswith(f"bytes {start}-")


def _copy(
    response: http.client.HTTPResponse,
    part: Path,
    have: int,
    total: int | None,
    options: DownloadOptions,
    progress: Progress,
) -> None:
    since, came = time.monotonic(), 0
    with part.open("ab") as handle:
        progress(have, total)
        while True:
            try:
                chunk = response.read1(2**18)  # what is there, without waiting for more: a dripping server is noticed
            except TimeoutError:
                raise _BrokenError(f"nothing came for {options.timeout:g} s") from None
            except (http.client.HTTPException, ConnectionError) as error:
                raise _BrokenError(str(error) or type(error).__name__) from None
            if not chunk:
                break
            handle.write(chunk)
            have, came = have + len(chunk), came + len(chunk)
            progress(have, total)
            if (passed := time.monotonic() - since) >= options.window:
                if came / passed < options.min_rate:
                    raise _BrokenError(f"only {came / passed:,.0f} bytes a second came")
                since, came = time.monotonic(), 0
    if total is not None and have < total:
        raise _BrokenError(f"the connection closed after {have:,} of {total:,} bytes")
