"""Bad input gets one clear line and the right exit status, or is the film's own error."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mmgcs.cli import main
from mmgcs.sample import sample_films

ENGLISH = "Two detectives hunt a killer through the city and fall in love with the same singer. "
RED = Image.new("RGB", (60, 90), (200, 30, 30))
NOISE = Image.effect_noise((300, 300), 60).convert("RGB")


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def enormous() -> bytes:
    """A PNG header of 20,000 × 20,000 pixels without the pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


REFUSED_POSTERS: dict[str, tuple[Callable[[], bytes | None], str]] = {
    "missing": (lambda: None, "does not exist; check the path"),
    "empty": (lambda: b"", "is empty; give a picture"),
    "truncated": (lambda: encoded(NOISE, "JPEG")[:9000], "is damaged or cut short"),
    "text": (lambda: b"this is a text file named .jpg\n" * 20, "is not a picture; give a JPEG"),
    "one-pixel": (lambda: encoded(Image.new("RGB", (1, 1)), "PNG"), "is 1 × 1 pixels, too small"),
    "enormous": (enormous, "is 20000 × 20000 pixels, over the limit"),
}


class Call:
    """Run commands with the tiny bundle."""

    def __init__(self, bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.bundle, self.folder, self._capsys = bundle, folder, capsys

    def __call__(self, *args: str, model: Path | None = None) -> tuple[int, str, list[str]]:
        """Return the exit status, stdout, and the lines of stderr."""
        status = main([*args, "--model", str(model or self.bundle)])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err.splitlines()

    def refused(self, *args: str, status: int = 2, model: Path | None = None) -> str:
        """Return the only line of a call that fails; with --json it is also one JSON value."""
        found, out, errors = self(*args, model=model)
        assert (found, out) == (status, "")
        (line,) = errors
        assert line.startswith("mmgcs: error: ")
        again, out, errors = self(*args, "--json", model=model)  # for the same reason, not for leftovers
        assert again == status
        assert json.loads(out) == {"error": line.removeprefix("mmgcs: error: ")}
        assert errors == [line]
        return line

    def write(self, name: str, content: bytes | None) -> str:
        path = self.folder / name
        if content is not None:
            path.write_bytes(content)
        return str(path)

    def tag(self, content: bytes) -> tuple[int, list[dict], list[str]]:
        """Tag a CSV file; return the exit status, the films, and the lines of stderr."""
        out = self.folder / "out.jsonl"
        status, _, errors = self("tag", self.write("films.csv", content), "--out", str(out), "--overwrite")
        films = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.is_file() else []
        return status, films, errors


def test_a_refused_poster_ends_the_process_cleanly(tmp_path: Path) -> None:
    # The model is still being opened in other threads when the poster turns out to be unusable.
    (tmp_path / "poster.jpg").write_bytes(b"")
    command = [sys.executable, "-m", "mmgcs", "predict", "--poster", str(tmp_path / "poster.jpg")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.fixture
def call(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(tiny_bundle, tmp_path, capsys)


def test_no_plot_and_no_poster(call: Call) -> None:
    assert "nothing to predict from; give --plot, --plot-file or --poster" in call.refused("predict")
    status, films, _ = call.tag(b"id,plot,poster\na,,\nb,love in the city,\n")
    assert status == 3
    assert "nothing to predict from" in films[0]["error"]
    assert films[1]["error"] is None


@pytest.mark.parametrize("plot", ["", " \n\t ", "\u200b\ufeff", "\x07"])
def test_an_empty_or_blank_plot(call: Call, plot: str) -> None:
    assert "the plot is empty; give a plot in words, or a poster" in call.refused("predict", "--plot", plot)
    file = call.write("plot.txt", plot.encode())
    assert "the plot is empty; give a plot in words, or a poster" in call.refused("predict", "--plot-file", file)


def test_a_plot_file_that_is_a_document_and_not_text(call: Call) -> None:
    file = call.write("plot.docx", b"PK\x03\x04\x14\x00\x06\x00a film about war")
    assert "is not text; save the plot as plain text (.txt)" in call.refused("predict", "--plot-file", file)


def test_a_plot_of_five_megabytes_is_cut_with_a_warning(call: Call) -> None:
    plot = (ENGLISH * 60_000).encode()
    assert len(plot) > 5_000_000
    status, out, errors = call("predict", "--plot-file", call.write("plot.txt", plot))
    assert status == 0
    assert "From the plot: " in out
    (line,) = errors
    assert line.startswith("mmgcs: warning: the plot has 5,")
    assert "only the first 20,000 were read" in line
    status, films, _ = call.tag(b"id,plot\na," + plot + b"\nb,love\n")
    assert (status, [film["error"] for film in films]) == (0, [None, None])
    assert "only the first 20,000" in films[0]["warnings"][0]


@pytest.mark.parametrize("plot", ["😀🎬💥", "a ghost\x01 and the\x1b[31m city", "👻" * 3000])
def test_emoji_and_control_characters_are_read(call: Call, plot: str) -> None:
    status, out, _ = call("predict", "--plot", plot, "--json")
    assert (status, json.loads(out)["inputs"]) == (0, ["plot"])


@pytest.mark.parametrize("name", REFUSED_POSTERS)
def test_a_poster_that_cannot_be_used(call: Call, name: str) -> None:
    make, message = REFUSED_POSTERS[name]
    poster = call.write("poster.jpg", make())
    line = call.refused("predict", "--poster", poster)
    assert message in line
    assert poster in line
    status, out, errors = call("predict", "--plot", ENGLISH, "--poster", poster)
    assert status == 0
    assert "From the plot: " in out
    (warning,) = errors
    assert warning == f"mmgcs: warning: {line.removeprefix('mmgcs: error: ')}"
    status, films, _ = call.tag(b"id,plot,poster\na,,poster.jpg\nb,love in the city,poster.jpg\nc,love,\n")
    assert status == 3
    assert message in films[0]["error"]
    assert (films[0]["genres"], films[0]["probabilities"]) == ([], {})
    assert [film["error"] for film in films[1:]] == [None, None]
    assert message in films[1]["warnings"][0]


def test_a_table_with_ragged_rows_loses_no_film(call: Call) -> None:
    status, films, errors = call.tag(b"id,plot,note\na,love,x\nb,love\nc,love,x,y\nd,love,x\n")
    assert status == 3
    assert [film["id"] for film in films] == ["a", "b", "c", "d"]
    assert [film["error"] is None for film in films] == [True, False, False, True]
    assert films[1]["error"] == "line 3 has 2 fields where the header has 3; fix the row"
    assert "(too many: 'y')" in films[2]["error"]
    assert any("2 in error" in line for line in errors)


def test_evaluate_counts_films_that_cannot_be_read(call: Call) -> None:
    rows = [f'{film.id},"{film.plot}",{"|".join(film.genres or ())},test' for film in sample_films()[:8] if film.plot]
    table = "id,plot,genres,split\n" + "\n".join([*rows, "x,,Drama,test", "y,ragged", "z,a ghost,,test"]) + "\n"
    out = ("evaluate", "--data", call.write("films.csv", table.encode()), "--json", "--bootstrap", "0")
    status, answer, _ = call(*out)
    assert status == 0
    counts = json.loads(answer)["counts"]
    assert (counts["scored"], counts["without_genres"]) == (len(rows), 1)
    assert counts["unreadable"] >= 1


def test_a_table_without_a_plot_column_is_refused(call: Call) -> None:
    table = call.write("films.csv", b"id,name\na,b\n")
    line = call.refused("tag", table, "--out", str(call.folder / "out.jsonl"))
    assert "has no column for the plot" in line
    assert line.endswith("name it with --columns plot=COLUMN; its columns are id, name")
    assert "no column for the plot" in call.refused("evaluate", "--data", table)


def test_a_damaged_bundle_is_refused_before_anything_is_written(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = Path(shutil.copytree(call.bundle, call.folder / "copy"))
    (bundle / "plot.onnx").write_bytes(b"changed")
    message = "plot.onnx differs from its SHA-256 in manifest.json"
    assert message in call.refused("predict", "--plot", ENGLISH, status=1, model=bundle)
    table, out = call.write("films.csv", b"id,plot\na,love\n"), call.folder / "out.jsonl"
    assert message in call.refused("tag", table, "--out", str(out), status=1, model=bundle)
    assert not out.exists()
    assert main(["verify", str(bundle), "--json"]) == 1
    assert message in json.loads(capsys.readouterr().out)["checks"][0]["detail"]
