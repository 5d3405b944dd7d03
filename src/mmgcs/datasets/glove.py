"""GloVe word vectors (Pennington et al., 2014): fetched or taken from a file, and loaded without waiting."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmgcs.datasets.download import DownloadOptions, Progress, download
from mmgcs.errors import InputError, UsageError
from mmgcs.files import alone, atomic_path, atomic_writer, remove_parts
from mmgcs.files import sha256 as file_sha256

GLOVE_URL = "https://nlp.stanford.edu/data/glove.6B.zip"
GLOVE_SIZE = 862_182_613
GLOVE_SHA256 = "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb"
DIMENSIONS = (50, 100, 200, 300)


def get_glove(
    folder: Path,
    dimension: int = 100,
    *,
    source: Path | None = None,
    url: str = GLOVE_URL,
    sha256: str | None = None,
    keep_zip: bool = False,
    options: DownloadOptions | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Put `glove.6B.<dimension>d.txt` into a folder, by download or from a file, and check that it loads.

    Args:
        folder: where it goes; what is there and loads is not fetched again.
        dimension: 50, 100, 200 or 300.
        source: an archive, a text file or a gzipped one that lies here already; without it, `url` is fetched.
        url: the archive's address.
        sha256: the archive's (or `source`'s) SHA-256; known for Stanford's address.
        keep_zip: keep the fetched archive, for other dimensions.
        options: how patient the download is.
        progress: called with the bytes that have come, and of how many.

    Raises:
        UsageError: the dimension does not exist, `source` is no file, or another process fills the folder.
        InputError: the archive is damaged or lacks the dimension, or the vectors cannot be read.
        MmgcsError: the download failed or is not the expected file.
    """
    if dimension not in DIMENSIONS:
        raise UsageError(f"--dim {dimension} does not exist; GloVe 6B has {', '.join(map(str, DIMENSIONS))}")
    target = folder / f"glove.6B.{dimension}d.txt"
    with alone(folder, str(target)):
        remove_parts(folder, f"{target.stem}*")
        return _put(target, dimension, source, url, sha256, keep_zip, options, progress)


def _put(
    target: Path,
    dimension: int,
    source: Path | None,
    url: str,
    sha256: str | None,
    keep_zip: bool,
    options: DownloadOptions | None,
    progress: Progress,
) -> Path:
    if source is None and target.is_file():
        with contextlib.suppress(InputError):
            if load_glove(target)[1].shape[1] == dimension:
                return target
    if source is not None:
        if not source.is_file():
            raise UsageError(f"--from {source} is not a file; give glove.6B.zip, or a .txt or .txt.gz of vectors")
        archive = source
        if sha256 is not None:
            _check_sum(source, sha256)
    else:
        stanford = url == GLOVE_URL
        archive = download(
            url,
            target.parent / (Path(url).name or "glove.zip"),
            size=GLOVE_SIZE if stanford else None,
            sha256=sha256 or (GLOVE_SHA256 if stanford else None),
            options=options,
            progress=progress,
        )
    _extract(archive, target, dimension)
    words, vectors = load_glove(target)
    if vectors.shape[1] != dimension or not words:
        _forget(target)
        raise InputError(f"{archive} has vectors of {vectors.shape[1]} numbers, not {dimension}; check --dim")
    if source is None and not keep_zip and archive != target:
        archive.unlink()
    return target


def _check_sum(path: Path, sha256: str) -> None:
    if file_sha256(path) != sha256.lower():
        raise InputError(f"{path} is not the expected file: its SHA-256 is not {sha256}; get it again")


def _extract(archive: Path, target: Path, dimension: int) -> None:
    """Write only the wanted dimension's text, whole or not at all."""
    try:
        with _opened(archive, dimension) as source, atomic_writer(target, "wb") as out:
            shutil.copyfileobj(source, out, 2**20)
    except (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{archive} is damaged or cut short ({error}); remove it and get it again") from None


@contextlib.contextmanager
def _opened(archive: Path, dimension: int) -> Iterator[IO[bytes]]:
    with archive.open("rb") as handle:
        magic = handle.read(4)
    if magic == b"PK\x03\x04" or archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as bundle:
            names = [name for name in bundle.namelist() if name.endswith(f".{dimension}d.txt")]
            if len(names) != 1:
                held = ", ".join(bundle.namelist()[:8])
                raise InputError(f"{archive} holds no vectors of {dimension} numbers (it holds {held}); check --dim")
            with bundle.open(names[0]) as member:
                yield member
    elif magic[:2] == b"\x1f\x8b":
        with gzip.open(archive) as member:
            yield member  # type: ignore[misc]  # a GzipFile reads as any file of bytes
    else:
        with archive.open("rb") as handle:
            yield handle


def load_glove(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """The words and their vectors (words, dimension) float32, in the file's order (the commonest word first).

    The first time the text is parsed, and the vectors are kept beside it as `.npy` with the words as `.vocab.txt`;
    from then on they are mapped into memory, read-only, which takes no time and is shared between processes. Where the
    folder cannot be written they are parsed each time.

    Args:
        path: text lines of a word and its numbers, also gzipped.

    Raises:
        InputError: the file is missing or is not of this form; the message names the line.
    """
    stamp = _stamp(path)
    vectors_at, words_at, stamp_at = _cache(path)
    with contextlib.suppress(OSError, ValueError):
        if stamp_at.read_text(encoding="utf-8").strip() == stamp:
            vectors = np.load(vectors_at, mmap_mode="r", allow_pickle=False)
            words = words_at.read_text(encoding="utf-8").split("\n")
            if len(words) == len(vectors) and vectors.dtype == np.float32:
                return words, vectors
    words, parsed = _parse(path)
    try:
        with atomic_path(vectors_at) as temporary, temporary.open("wb") as handle:
            np.save(handle, parsed, allow_pickle=False)
        with atomic_writer(words_at) as text:
            text.write("\n".join(words))
        with atomic_writer(stamp_at) as text:  # last: without it the others do not count
            text.write(stamp)
        return words, np.load(vectors_at, mmap_mode="r", allow_pickle=False)
    except OSError:
        return words, parsed


def _cache(path: Path) -> tuple[Path, Path, Path]:
    stem = path.name.removesuffix(".gz").removesuffix(".txt")
    return tuple(path.with_name(f"{stem}{suffix}") for suffix in (".npy", ".vocab.txt", ".stamp"))  # type: ignore[return-value]


def _forget(path: Path) -> None:
    for file in (path, *_cache(path)):
        file.unlink(missing_ok=True)


def _stamp(path: Path) -> str:
    """What tells whether the text is still the one that was parsed."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); get it with: mmgcs data glove") from None
    return f"{path.name} {status.st_size} {status.st_mtime_ns}"


def _parse(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as handle:
            first = handle.readline()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); get it again with: mmgcs data glove") from None
    width = len(first.split()) - 1
    if width < 2:
        raise InputError(f"{path} is no file of word vectors: its first line is not a word and numbers")
    schema = {"word": pl.String, **{str(index): pl.Float32 for index in range(width)}}
    try:
        table = pl.read_csv(
            path, separator=" ", has_header=False, quote_char=None, schema=schema, empty_string_is_null=False
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(f"{path} is no file of word vectors ({reason}); get it again with: mmgcs data glove") from None
    numbers = table.drop("word")
    short = numbers.select(pl.any_horizontal(pl.all().is_null())).to_series()
    if short.any():
        line = int(short.arg_true()[0]) + 1
        raise InputError(f"{path} is damaged in line {line}: it has no {width} numbers; get it with: mmgcs data glove")
    return table["word"].to_list(), np.ascontiguousarray(numbers.to_numpy())
