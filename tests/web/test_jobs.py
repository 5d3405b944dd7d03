"""Tables tagged in the background: when they are counted, stopped and deleted."""

from __future__ import annotations

import errno
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import NotFound, ServiceUnavailable

from mmgcs.web import Settings, create_app
from mmgcs.web import jobs as jobs_module
from mmgcs.web.jobs import Job, JobQueue


@pytest.fixture
def jobs(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobQueue]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(jobs_module, "_SWEEP", 0.02)
    found: JobQueue = create_app(tiny_bundle, Settings(max_jobs=2, job_minutes=1)).extensions["mmgcs"].jobs
    yield found
    assert found.close()
    assert list(tmp_path.glob("mmgcs-*")) == []


def until(done: Callable[[], bool]) -> None:
    """Wait, but not for ever."""
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def text_table() -> FileStorage:
    return FileStorage(io.BytesIO(b"plot\nA haunted village\n"), "films.csv")


def packed_table() -> FileStorage:
    """A Parquet file that takes a while to unpack."""
    buffer = io.BytesIO()
    pl.DataFrame({"plot": ["A killer " * 200]}).select(pl.all().repeat_by(90_000).explode()).write_parquet(buffer)
    buffer.seek(0)
    return FileStorage(buffer, "films.parquet")


def ended(job: Job) -> str:
    until(lambda: job.shown.state not in ("waiting", "running"))
    return job.shown.state


def test_a_tagged_table_is_deleted_after_its_time_even_if_nobody_asks(jobs: JobQueue) -> None:
    job = jobs.start(text_table())
    assert ended(job) == "done"
    assert jobs.get(job.shown.id).result_path().is_file()
    job.ended -= 61
    with pytest.raises(NotFound):
        jobs.get(job.shown.id)
    until(lambda: not job.table.parent.exists())


def test_removed_tables_count_until_their_work_has_ended(jobs: JobQueue) -> None:
    started = [jobs.start(packed_table()) for _ in range(2)]
    for job in started:
        jobs.remove(job.shown.id)
    with pytest.raises(ServiceUnavailable):
        jobs.start(text_table())
    until(lambda: not jobs.active)
    assert not any(job.table.parent.exists() for job in started)
    assert [job.shown.films for job in started] == [0, 0]  # what was not unpacked to the end was not read here
    assert ended(jobs.start(text_table())) == "done"


def test_a_full_disk_is_not_called_a_fault_of_the_table(jobs: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs_module, "open_file_sink", fail)
    job = jobs.start(text_table())
    assert ended(job) == "failed"
    assert job.shown.error == "the server could not store the tagged table; try again later"


def test_paths_of_posters_on_the_sender_s_machine_do_not_keep_films_from_being_tagged(jobs: JobQueue) -> None:
    paths = ("/home/me/a.jpg", r"C:\posters\b.jpg", "../c.jpg", "d.jpg")
    table = "plot,poster\n" + "".join(f"A haunted village,{path}\n" for path in paths)
    job = jobs.start(FileStorage(io.BytesIO(table.encode()), "films.csv"))
    assert ended(job) == "done"
    assert job.shown.errors == 0
    assert job.result_path().read_text().count("poster paths in an uploaded table are not read") == len(paths)


def test_advice_about_columns_names_the_field_of_the_form(jobs: JobQueue) -> None:
    job = jobs.start(FileStorage(io.BytesIO(b"Erzaehlung\nA haunted village\n"), "films.csv"))
    assert ended(job) == "failed"
    assert "name it in the column names, as plot=COLUMN; its columns are Erzaehlung" in str(job.shown.error)


def test_a_table_of_text_need_not_wait_until_another_is_unpacked(jobs: JobQueue) -> None:
    large = jobs.start(packed_table())
    assert ended(jobs.start(text_table())) == "done"
    assert (large.shown.state, large.shown.films) == ("running", 0)
