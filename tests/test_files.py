"""Files are written whole or not at all; leftovers of killed processes are found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mmgcs.files import atomic_path, atomic_writer, remove_parts, remove_parts_of

NAMES = {
    "Chinese": "長" * 83 + ".nfo",
    "plain": "a" * 255,
    "accents": "é" * 120 + ".nfo",
    "extension": "x." + "y" * 250,
}


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
@pytest.mark.usefixtures("umask")
def test_the_new_content_of_a_private_file_is_always_private(tmp_path: Path) -> None:
    path = tmp_path / "secret.nfo"
    path.touch(0o600)
    with atomic_path(path, like=path) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600
        temporary.write_bytes(b"new")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="no other folder refuses root")
def test_an_error_names_the_file_and_not_the_temporary_one() -> None:
    with pytest.raises(OSError) as error, atomic_path(Path("/proc/why.html")):
        pass
    assert error.value.filename == "/proc/why.html"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no groups")
def test_a_file_keeps_its_group_if_only_its_owner_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, groups = tmp_path / "movie.nfo", []
    path.touch()

    def chown(_: Path, owner: int, group: int) -> None:
        if owner != -1:
            raise PermissionError
        groups.append(group)

    monkeypatch.setattr(os, "chown", chown)
    with atomic_path(path, like=path):
        pass
    assert groups == [path.stat().st_gid]


def test_a_file_is_replaced_on_a_system_without_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "movie.nfo"
    path.write_bytes(b"old")
    monkeypatch.delattr(os, "chown", raising=False)  # as on Windows
    with atomic_path(path, like=path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_name_the_disk_allows_can_be_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in ("old", "new"):
        with atomic_writer(path) as handle:
            handle.write(content)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert path.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("name", ["movie.nfo", "[x] *.nfo", *NAMES.values()], ids=["short", "pattern", *NAMES])
def test_leftovers_of_a_killed_process_are_found_by_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    left = left_behind(tmp_path / name)
    other = left_behind(tmp_path / f"other {name}"[:60])
    remove_parts_of(tmp_path / name)
    assert list(tmp_path.iterdir()) == [other]
    assert len(os.fsencode(left.name)) <= 143  # what encrypted folders (eCryptfs) allow


def test_leftovers_of_a_file_with_a_long_name_keep_its_extension(tmp_path: Path) -> None:
    left_behind(tmp_path / f"{'a' * 240}.jpg")
    other = left_behind(tmp_path / f"{'a' * 240}.png")
    remove_parts(tmp_path, "*.jpg")
    assert list(tmp_path.iterdir()) == [other]


def left_behind(path: Path) -> Path:
    """Leave what a process leaves if it is killed while it writes `path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        content, name = temporary.read_bytes(), temporary
    path.unlink()
    name.write_bytes(content)
    return name
