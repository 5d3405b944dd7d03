"""Every changed file can be restored exactly."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mmgcs.errors import InputError, UsageError
from mmgcs.files import sha256
from mmgcs.library import undo as undo_module
from mmgcs.library.undo import Backups


def upper(content: bytes) -> bytes:
    return content.upper()


@pytest.fixture
def nfo(tmp_path: Path) -> Path:
    path = tmp_path / "A (1950)" / "movie.nfo"
    path.parent.mkdir()
    path.write_bytes(b"one\r\n")
    path.chmod(0o640)
    os.utime(path, ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
    return path


def write(root: Path, path: Path, make: Callable[[bytes], bytes] = upper) -> None:
    backups = Backups(root)
    with backups.lock():
        backups.write(path, make, expected=sha256(path) if path.exists() else None)


def undo(root: Path, *, force: bool = False, follow: bool = False) -> list[str]:
    backups = Backups(root)
    with backups.lock():
        return [backups.restore(entry, force=force, follow=follow) for entry in list(backups.writes)]


def test_undo_restores_bytes_mode_owner_and_times(tmp_path: Path, nfo: Path) -> None:
    before = nfo.stat()
    write(tmp_path, nfo)
    assert nfo.read_bytes() == b"ONE\r\n"
    assert nfo.stat().st_mode == before.st_mode
    assert nfo.stat().st_mtime_ns > before.st_mtime_ns  # media centres look for newer files
    write(tmp_path, nfo, lambda content: content + b"more")
    assert undo(tmp_path) == ["restored"]
    after = nfo.stat()
    assert nfo.read_bytes() == b"one\r\n"
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert undo(tmp_path) == []


def test_one_run_is_undone_and_the_earlier_one_stays(tmp_path: Path, nfo: Path) -> None:
    other = nfo.with_name("other.nfo")
    other.write_bytes(b"two")
    write(tmp_path, nfo)
    backups = Backups(tmp_path)
    with backups.lock():
        backups.write(nfo, lambda content: content + b"more", expected=sha256(nfo))
        backups.write(other, upper, expected=sha256(other))
    first, second = backups.runs()
    assert backups.runs() == {first: 1, second: 2}
    with backups.lock(), pytest.raises(InputError, match=f"changed again by the run {second}; undo that run first"):
        backups.restore(next(iter(backups.writes)), run=first)
    with backups.lock():
        assert [backups.restore(entry, run=second) for entry in list(backups.writes)] == ["restored", "restored"]
    assert (nfo.read_bytes(), other.read_bytes()) == (b"ONE\r\n", b"two")
    assert list(Backups(tmp_path).runs()) == [first]
    assert undo(tmp_path) == ["restored"]
    assert nfo.read_bytes() == b"one\r\n"
    assert list((tmp_path / ".mmgcs").glob("*.bak")) == []


MOMENTS = ["before the last look", "after it"]
WAYS = ["in place", "by a rename"]


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "rename"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_another_program_writes_at_the_last_moment_is_kept(
    moment: str, way: str, exchange: bool, tmp_path: Path, nfo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if moment == "after it" and way == "by a rename" and not exchange:
        pytest.skip("without an exchange in one step there is a gap of microseconds")
    real = {"fsync": os.fsync, "exchange": undo_module._exchange}

    def other_program() -> None:
        if way == "in place":
            nfo.write_bytes(b"theirs")
        else:
            new = nfo.with_name("new")
            new.write_bytes(b"theirs")
            new.replace(nfo)

    def fsync(handle: int) -> None:
        real["fsync"](handle)
        if moment == MOMENTS[0] and list(nfo.parent.glob("*.part")):
            other_program()

    def exchanged(first: Path, second: Path) -> bool:
        if moment == MOMENTS[1]:
            other_program()
        return exchange and real["exchange"](first, second)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(undo_module, "_exchange", exchanged)
    with pytest.raises(InputError, match="another program changed it"):
        write(tmp_path, nfo)
    monkeypatch.undo()
    assert nfo.read_bytes() == b"theirs"
    assert [path.name for path in nfo.parent.iterdir()] == [nfo.name]
    assert undo(tmp_path) == []
    write(tmp_path, nfo)
    assert nfo.read_bytes() == b"THEIRS"
    assert undo(tmp_path) == ["restored"]
    assert nfo.read_bytes() == b"theirs"


def test_a_file_created_at_the_last_moment_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "movie.nfo", os.link

    def link(first: Path, second: Path) -> None:
        path.write_bytes(b"theirs")
        real(first, second)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(InputError, match="another program changed it"):
        write(tmp_path, path, lambda _: b"ours")
    assert path.read_bytes() == b"theirs"
    assert undo(tmp_path) == []


@pytest.mark.parametrize("what", ["changed", "removed"])
def test_a_file_changed_or_removed_since_is_restored_only_with_force(tmp_path: Path, nfo: Path, what: str) -> None:
    write(tmp_path, nfo)
    nfo.write_bytes(b"mine") if what == "changed" else nfo.unlink()
    with pytest.raises(InputError, match=f"{what} in the meantime"):
        undo(tmp_path)
    assert nfo.exists() == (what == "changed")
    assert undo(tmp_path, force=True) == ["restored"]
    assert nfo.read_bytes() == b"one\r\n"


def test_a_created_file_is_removed_again(tmp_path: Path) -> None:
    path = tmp_path / "movie.nfo"
    write(tmp_path, path, lambda _: b"new")
    assert path.read_bytes() == b"new"
    assert undo(tmp_path) == ["removed"]
    assert not path.exists()


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path, nfo: Path) -> None:
    link = tmp_path / "linked.nfo"
    link.symlink_to(nfo)
    write(tmp_path, link)
    assert link.is_symlink()
    assert nfo.read_bytes() == b"ONE\r\n"
    undo(tmp_path)
    assert link.is_symlink()
    assert nfo.read_bytes() == b"one\r\n"


def test_a_damaged_backup_is_not_restored(tmp_path: Path, nfo: Path) -> None:
    write(tmp_path, nfo)
    (copy,) = (tmp_path / ".mmgcs").glob("*.bak")
    copy.write_bytes(b"rot")
    with pytest.raises(InputError, match="is damaged"):
        undo(tmp_path)
    assert nfo.read_bytes() == b"ONE\r\n"


def test_a_journal_with_a_cut_last_line_can_be_read(tmp_path: Path, nfo: Path) -> None:
    other = nfo.with_name("other.nfo")
    other.write_bytes(b"two")
    write(tmp_path, nfo)
    journal = tmp_path / ".mmgcs" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"path": "A (1950)/ot')
    write(tmp_path, other)
    assert undo(tmp_path) == ["restored", "restored"]
    assert (nfo.read_bytes(), other.read_bytes()) == (b"one\r\n", b"two")


@pytest.mark.parametrize(
    "path",
    [
        *("../outside.nfo", "/etc/outside.nfo", "a/../../outside.nfo"),
        *("C:outside.nfo", "\\outside.nfo", "a\\..\\..\\outside.nfo"),
    ],
)
def test_a_journal_cannot_lead_out_of_the_library(tmp_path: Path, path: str) -> None:
    (tmp_path / ".mmgcs").mkdir()
    for line in ({"path": path, "backup": None}, {"path": "movie.nfo", "backup": path}):
        content = json.dumps({"before": None, "after": "x", **line}) + "\n"
        (tmp_path / ".mmgcs" / "journal.jsonl").write_text(content, encoding="utf-8")
        assert Backups(tmp_path).writes == {}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["Alien: Covenant", "X: The Man", "\\Alien", "...", os.fsdecode(b"caf\xe9")])
def test_a_file_in_a_folder_with_an_odd_name_can_be_restored(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "movie.nfo"
    path.parent.mkdir()
    path.write_bytes(b"one")
    for _ in range(2):
        write(tmp_path, path)
        assert path.read_bytes() == b"ONE"
    assert undo(tmp_path) == ["restored"]
    assert path.read_bytes() == b"one"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_file_that_undo_would_refuse_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a\\..\\b" / "movie.nfo"
    path.parent.mkdir()
    path.write_bytes(b"one")
    with pytest.raises(InputError, match="which undo rejects"):
        write(tmp_path, path)
    assert path.read_bytes() == b"one"


def test_undo_follows_a_link_out_of_the_library_only_when_asked(tmp_path: Path, nfo: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    (root / "linked").symlink_to(nfo.parent)
    write(root, root / "linked" / "movie.nfo")
    for force in (False, True):
        with pytest.raises(InputError, match=r"a link leads out of the library, .*movie\.nfo; .* use --follow-links"):
            undo(root, force=force)
    assert nfo.read_bytes() == b"ONE\r\n"
    assert undo(root, follow=True) == ["restored"]
    assert nfo.read_bytes() == b"one\r\n"


def test_a_forged_journal_cannot_replace_or_remove_what_a_link_leads_to(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "library"
    outside.mkdir()
    (outside / "conf").write_bytes(b"theirs")
    (outside / ".conf.x.part").touch()
    (root / ".mmgcs").mkdir(parents=True)
    (root / ".mmgcs" / "x.bak").write_bytes(b"evil")
    (root / "x").symlink_to(outside)
    (root / "circle").symlink_to("circle")
    evil = sha256(root / ".mmgcs" / "x.bak")
    lines = [
        {"path": "x/conf", "before": evil, "after": sha256(outside / "conf"), "backup": "x.bak"},
        {"path": "x/../x/conf", "before": None, "after": sha256(outside / "conf"), "backup": None},
        {"path": "x//conf", "before": None, "after": sha256(outside / "conf"), "backup": None},
        {"path": "circle/conf", "before": evil, "after": "y", "backup": "x.bak"},
        {"path": "nul\0", "before": evil, "after": "y", "backup": "x.bak"},
    ]
    (root / ".mmgcs" / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    backups = Backups(root)
    with backups.lock():
        for entry in list(backups.writes):
            with pytest.raises(InputError):
                backups.restore(entry, force=True)
    assert (outside / "conf").read_bytes() == b"theirs"
    assert (outside / ".conf.x.part").exists()


def test_two_runs_at_once_are_refused(tmp_path: Path, nfo: Path) -> None:
    with (
        Backups(tmp_path).lock(),
        pytest.raises(UsageError, match="another mmgcs is writing"),
        Backups(tmp_path).lock(),
    ):
        pass


def test_media_servers_ignore_the_backups(tmp_path: Path, nfo: Path) -> None:
    write(tmp_path, nfo)
    names = {path.name for path in (tmp_path / ".mmgcs").iterdir()}
    assert {".ignore", ".nomedia", ".plexignore"} <= names
    assert not any(name.endswith(".nfo") for name in names)
