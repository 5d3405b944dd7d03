"""Every bad input, given to the real command: one clear line and the right exit status, or the film's own error."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgcs.bundle import MANIFEST
from mmgcs.cli import main
from mmgcs.sample import sample_films

ENGLISH = "Two detectives hunt a killer through the city and fall in love with the same singer. "
FRENCH = "Deux policiers poursuivent un assassin dans les rues de Paris pendant que la ville dort encore."
RED = Image.new("RGB", (60, 90), (200, 30, 30))
NOISE = Image.effect_noise((300, 300), 60).convert("RGB")


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bit() -> bytes:
    return encoded(Image.fromarray(np.linspace(0, 65535, 60 * 90).reshape(90, 60).astype(np.uint16)), "PNG")


def palette_with_transparency() -> bytes:
    picture = Image.new("P", (20, 20), 0)
    picture.putpalette([10, 10, 10, 0, 0, 200])
    return encoded(picture, "PNG", transparency=0)


def animated(kind: str) -> bytes:
    other = Image.new("RGB", (60, 90), (0, 250, 0))
    return encoded(RED, kind, save_all=True, append_images=[other])


def enormous() -> bytes:
    """A header that says 20,000 × 20,000, and no pixels."""

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
READ_POSTERS: dict[str, Callable[[], bytes]] = {
    "cmyk": lambda: encoded(RED.convert("CMYK"), "JPEG"),
    "sixteen-bit": sixteen_bit,
    "palette": palette_with_transparency,
    "animated-gif": lambda: animated("GIF"),
    "animated-webp": lambda: animated("WEBP"),
}


class Call:
    """Runs a command with the tiny bundle and takes its answer."""

    def __init__(self, bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.bundle, self.folder, self._capsys = bundle, folder, capsys

    def __call__(self, *args: str, model: Path | None = None) -> tuple[int, str, list[str]]:
        """Exit status, stdout, and the lines of stderr."""
        status = main([*args, "--model", str(model or self.bundle)])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err.splitlines()

    def refused(self, *args: str, status: int = 2, model: Path | None = None) -> str:
        """The one line of a call that ends in an error; with --json it is one JSON value as well."""
        found, out, errors = self(*args, model=model)
        assert (found, out) == (status, "")
        (line,) = errors
        assert line.startswith("mmgcs: error: ")
        again, out, errors = self(*args, "--json", model=model)  # refused for the same reason, not for what was left
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
        """Tag a CSV: exit status, films, and the lines of stderr."""
        out = self.folder / "out.jsonl"
        status, _, errors = self("tag", self.write("films.csv", content), "--out", str(out), "--overwrite")
        films = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.is_file() else []
        return status, films, errors


@pytest.fixture
def call(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(tiny_bundle, tmp_path, capsys)


def test_no_plot_and_no_poster(call: Call) -> None:
    assert "nothing to predict from; give --plot, --plot-file or --poster" in call.refused("predict")
    status, films, _ = call.tag(b"id,plot,poster\na,,\nb,love in the city,\n")
    assert status == 3
    assert "nothing to predict from" in films[0]["error"]
    assert films[1]["error"] is None


@pytest.mark.parametrize("plot", ["", "   ", " \n\t ", "\u200b\ufeff", "\x00\x07"])
def test_an_empty_or_blank_plot(call: Call, plot: str) -> None:
    if "\x00" not in plot:  # no system hands one over in an argument
        assert "the plot is empty; give a plot in words, or a poster" in call.refused("predict", "--plot", plot)
    file = call.write("plot.txt", plot.encode())
    assert "the plot is empty; give a plot in words, or a poster" in call.refused("predict", "--plot-file", file)


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


def test_a_plot_in_another_language_is_read_with_a_warning(call: Call) -> None:
    status, out, errors = call("predict", "--plot", FRENCH)
    assert status == 0
    assert "From the plot: " in out
    assert errors[0] == (
        "mmgcs: warning: the plot seems to be in French, a language the model has not learned; expect errors"
    )


@pytest.mark.parametrize("plot", ["😀🎬💥", "a ghost\x01 and the\x1b[31m city", "\u202elove in the city", "👻" * 3000])
def test_emoji_and_control_characters_are_read(call: Call, plot: str) -> None:
    status, out, _ = call("predict", "--plot", plot, "--json")
    assert status == 0
    assert json.loads(out)["inputs"] == ["plot"]


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


@pytest.mark.parametrize("name", READ_POSTERS)
def test_a_poster_of_an_unusual_kind_is_read(call: Call, name: str) -> None:
    status, out, _ = call("predict", "--poster", call.write("poster.jpg", READ_POSTERS[name]()), "--json")
    assert status == 0
    assert json.loads(out)["inputs"] == ["poster"]


def test_a_table_with_ragged_rows_loses_no_film(call: Call) -> None:
    status, films, errors = call.tag(b"id,plot,note\na,love,x\nb,love\nc,love,x,y\nd,love,x\n")
    assert status == 3
    assert [film["id"] for film in films] == ["a", "b", "c", "d"]
    assert [film["error"] is None for film in films] == [True, False, False, True]
    assert films[1]["error"] == "line 3 has 2 fields where the header has 3; fix the row"
    assert "(too many: 'y')" in films[2]["error"]
    assert any("2 in error" in line for line in errors)


def test_a_table_without_a_column_to_read(call: Call) -> None:
    table = call.write("films.csv", b"id,name\na,b\n")
    line = call.refused("tag", table, "--out", str(call.folder / "out.jsonl"))
    assert "has no column for the plot" in line
    assert line.endswith("name it with --columns plot=COLUMN; its columns are id, name")
    assert "no column for the plot" in call.refused("evaluate", "--data", table)


def changed_byte(bundle: Path) -> None:
    data = bytearray((bundle / "plot.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "plot.onnx").write_bytes(data)


def missing_file(bundle: Path) -> None:
    (bundle / "fusion.onnx").unlink()


def newer_format(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    (bundle / MANIFEST).write_text(json.dumps({**manifest, "format_version": "2.0"}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed_byte, r"plot.onnx differs from its SHA-256 in manifest.json"),
        (missing_file, r"fusion.onnx cannot be read (No such file or directory)"),
        (newer_format, r"is of bundle format 2.0, this mmgcs reads up to 1.x; upgrade mmgcs"),
    ],
)
def test_a_bundle_that_is_damaged_or_of_a_newer_format(
    call: Call, damage: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(call.bundle, call.folder / "copy"))
    damage(bundle)
    assert message in call.refused("predict", "--plot", ENGLISH, status=1, model=bundle)
    table, out = call.write("films.csv", b"id,plot\na,love\n"), call.folder / "out.jsonl"
    assert message in call.refused("tag", table, "--out", str(out), status=1, model=bundle)
    assert not out.exists()
    assert main(["verify", str(bundle), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert message in (
        answer["error"] if "error" in answer else answer["checks"][0]["detail"] + "; get the bundle again"
    )


def test_evaluating_films_of_which_some_cannot_be_read_counts_them(call: Call) -> None:
    rows = [f'{film.id},"{film.plot}",{"|".join(film.genres or ())},test' for film in sample_films()[:8] if film.plot]
    table = "id,plot,genres,split\n" + "\n".join([*rows, "x,,Drama,test", "y,ragged", "z,a ghost,,test"]) + "\n"
    out = ("evaluate", "--data", call.write("films.csv", table.encode()), "--json", "--bootstrap", "0")
    status, answer, _ = call(*out)
    assert status == 0
    counts = json.loads(answer)["counts"]
    assert (counts["scored"], counts["without_genres"]) == (len(rows), 1)
    assert counts["unreadable"] >= 1
