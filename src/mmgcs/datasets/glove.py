"""Download GloVe word vectors (Pennington et al., 2014)."""

from __future__ import annotations

import contextlib
import gzip
import zipfile
import zlib
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from mmgcs.errors import InputError, UsageError
from mmgcs.files import atomic_writer, lock_folder, remove_parts
from mmgcs.files import sha256 as file_sha256
from mmgcs.http import ByteProgress, WebOptions, download
from mmgcs.word_vectors import vector_width

GLOVE_URL = "https://nlp.stanford.edu/data/glove.6B.zip"
GLOVE_SIZE = 862_182_613
GLOVE_SHA256 = "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb"
DIMENSIONS = (50, 100, 200, 300)
MAX_TEXT = 4 * 2**30
"""The largest text file in an archive, in bytes; Stanford's largest has 1 GB."""


def get_glove(
    folder: Path,
    dimension: int = 100,
    *,
    source: Path | None = None,
    url: str = GLOVE_URL,
    sha256: str | None = None,
    keep_zip: bool = False,
    options: WebOptions | None = None,
    progress: ByteProgress = lambda done, total: None,
) -> Path:
    """Put `glove.6B.<dimension>d.txt` into a folder, from a download or a local file.

    Args:
        folder: where it goes; if the file is already there, nothing is downloaded.
        dimension: 50, 100, 200 or 300.
        source: a local archive, text file or gzipped text file; if None, `url` is downloaded.
        url: the archive's address.
        sha256: the SHA-256 of the archive or of `source`; known for Stanford's address.
        keep_zip: True to keep the downloaded archive, for other dimensions.
        options: how to download.
        progress: called as bytes arrive.

    Raises:
        UsageError: the dimension does not exist, `source` is not a file or not word vectors, or another process is
            writing to the folder.
        InputError: the archive is damaged or lacks the dimension.
        MmgcsError: the download failed, or is not the expected file.
    """
    if dimension not in DIMENSIONS:
        raise UsageError(f"--dim {dimension} does not exist; GloVe 6B has {', '.join(map(str, DIMENSIONS))}")
    if source is not None and not source.is_file():
        raise UsageError(f"--from {source} is not a file; give glove.6B.zip, or a .txt or .txt.gz of vectors")
    target = folder / f"glove.6B.{dimension}d.txt"
    with lock_folder(folder, str(target)):
        remove_parts(folder, f"{target.stem}*")
        if source is None and target.is_file():
            with contextlib.suppress(UsageError):
                if vector_width(target) == dimension:
                    return target
        if source is None:
            archive = folder / (Path(urlsplit(url).path).name or "glove.zip")
            known, most = (GLOVE_SHA256, GLOVE_SIZE) if url == GLOVE_URL else (None, 4 * 2**30)
            options = options or WebOptions(allow_private=True, max_bytes=most)
            download(url, archive, sha256=sha256 or known, options=options, progress=progress)
        else:
            archive = source
            if sha256 is not None and file_sha256(source) != sha256.lower():
                raise InputError(f"{source} is not the expected file: its SHA-256 is not {sha256}; download it again")
        in_place = archive.resolve() == target.resolve()
        if not in_place:
            _extract(archive, target, dimension)
        try:
            if (width := vector_width(target)) != dimension:
                raise InputError(f"{archive} has {width}-dimensional vectors, not {dimension}; check --dim")
        except UsageError:
            if not in_place:
                target.unlink()
            raise
        if source is None and not keep_zip and not in_place:
            archive.unlink()
    return target


def _extract(archive: Path, target: Path, dimension: int) -> None:
    try:
        with _open_text(archive, dimension) as source, atomic_writer(target, "wb") as out:
            while piece := source.read(2**20):
                if out.tell() > MAX_TEXT:
                    raise InputError(f"{archive} unpacks to more than {MAX_TEXT // 2**30} GiB; check the file")
                out.write(piece)
    except (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{archive} is damaged or cut short ({error}); remove it and download it again") from None


def _open_text(archive: Path, dimension: int) -> IO[bytes]:
    if archive.suffix.lower() == ".gz":
        return gzip.open(archive)  # type: ignore[return-value]
    if archive.suffix.lower() != ".zip":
        return archive.open("rb")
    opened = zipfile.ZipFile(archive)
    names = [name for name in opened.namelist() if name.endswith(f".{dimension}d.txt")]
    if len(names) != 1:
        held = ", ".join(opened.namelist()[:8])
        raise InputError(f"{archive} has no {dimension}-dimensional vectors (it holds {held}); check --dim")
    return opened.open(names[0])
