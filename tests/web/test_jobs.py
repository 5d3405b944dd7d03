"""Tables tagged in the background: how many, how long they are kept, and what is left of them."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from mmgcs.web import Settings, create_app
from mmgcs.web import jobs as jobs_module
from mmgcs.web.errors import BusyError, NotFoundError
from mmgcs.web.jobs import Job, JobQueue
from mmgcs.web.upload_check import count_films

TABLE = b"plot\nA haunted village\n"


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


def ended(job: Job) -> Job:
    until(lambda: job.state not in ("waiting", "running"))
    return job


def packed(films: int, plot: str) -> bytes:
    """A Parquet file that takes a while to unpack."""
    buffer = io.BytesIO()
    pl.DataFrame({"plot": [plot]}).select(pl.all().repeat_by(films).explode()).write_parquet(buffer)
    return buffer.getvalue()


def test_a_tagged_table_is_forgotten_after_its_time_though_nobody_asks(jobs: JobQueue) -> None:
    job = ended(jobs.start(io.BytesIO(TABLE), "films.csv"))
    assert jobs.get(job.id).result_path().is_file()
    job.since -= 61
    with pytest.raises(NotFoundError):
        jobs.get(job.id)
    until(lambda: not job.folder.exists())  # the sweep takes it away


def test_removed_tables_count_until_their_work_has_ended(jobs: JobQueue) -> None:
    started = [jobs.start(io.BytesIO(packed(90_000, "A killer " * 200)), "films.parquet") for _ in range(2)]
    for job in started:
        jobs.remove(job.id)
    with pytest.raises(BusyError):
        jobs.start(io.BytesIO(TABLE), "films.csv")
    until(lambda: not jobs._working)
    assert not any(job.folder.exists() for job in started)
    assert [job.films for job in started] == [0, 0]  # what was not unpacked to the end was not read here
    assert ended(jobs.start(io.BytesIO(TABLE), "films.csv")).state == "done"


def test_a_table_of_text_need_not_wait_until_another_is_unpacked(jobs: JobQueue) -> None:
    large = jobs.start(io.BytesIO(packed(90_000, "A killer " * 200)), "films.parquet")
    assert ended(jobs.start(io.BytesIO(TABLE), "films.csv")).state == "done"
    assert (large.state, large.films) == ("running", 0)


def test_a_table_that_is_removed_ends_the_process_that_unpacks_it(tmp_path: Path) -> None:
    (tmp_path / "films.parquet").write_bytes(packed(90_000, "A killer " * 200))
    stopped, before, seen = threading.Event(), _children(), set()

    def stop() -> None:
        until(lambda: bool(_children() - before))
        seen.update(_children() - before)
        stopped.set()

    threading.Thread(target=stop).start()
    count_films(tmp_path / "films.parquet", 2**40, 10**9, stopped)
    assert stopped.is_set()
    assert seen
    assert not _children() & seen


def test_of_many_that_remove_the_same_none_fails_but_for_there_being_nothing(jobs: JobQueue) -> None:
    job = ended(jobs.start(io.BytesIO(TABLE), "films.csv"))
    said: list[Exception] = []

    def remove() -> None:
        try:
            jobs.remove(job.id)
        except Exception as error:
            said.append(error)

    threads = [threading.Thread(target=remove) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {type(error) for error in said} <= {NotFoundError}
    assert not job.folder.exists()


def _children() -> set[str]:
    """The processes that this one has started and that have not ended."""
    return {
        line for task in Path(f"/proc/{os.getpid()}/task").iterdir() for line in (task / "children").read_text().split()
    }
