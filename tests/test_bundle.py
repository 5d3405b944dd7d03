"""A bundle is written whole, checked when it is read, and refused in one line if it is damaged or was changed."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.external_data_helper import set_external_data

from mmgcs import load
from mmgcs.bundle import CARD_JSON, CONFIG, MANIFEST, Bundle, BundleConfig, seal, write_bundle
from mmgcs.cli import main
from mmgcs.errors import BundleError, MmgcsError, UsageError
from mmgcs.runtime import CARD_KEY, record_samples, verify


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def edit(path: Path, key: str, value: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content[key] = value
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_whole_bundle_has_no_problems_and_knows_its_inputs(tiny_bundle: Path) -> None:
    bundle = Bundle(tiny_bundle)
    assert bundle.check() == []
    assert bundle.config.inputs == ("plot", "poster")
    assert BundleConfig.from_json(json.loads(json.dumps(bundle.config.to_json()))) == bundle.config


def test_a_file_read_ahead_is_the_same_and_is_checked(copy: Path) -> None:
    expected = (copy / "plot.onnx").read_bytes()
    bundle = Bundle(copy)
    bundle.read_ahead(["plot.onnx", "tokenizer.json", "nowhere.onnx"])
    assert bundle.read("plot.onnx") == expected
    (copy / "plot.onnx").write_bytes(expected[:-1] + bytes([expected[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"plot\.onnx"):  # what was read ahead is handed out once
        bundle.read("plot.onnx")
    bundle.read_ahead(["plot.onnx"])
    with pytest.raises(BundleError, match=r"plot\.onnx"):
        bundle.read("plot.onnx")
    with pytest.raises(BundleError, match="no file nowhere"):
        bundle.read("nowhere.onnx")


def test_a_copy_has_every_file_but_those_left_out_and_none_that_was_changed(copy: Path, tmp_path: Path) -> None:
    bundle = Bundle(copy)
    bundle.copy_to(tmp_path / "new", without=("plot.onnx", "CARD.md"))
    copied = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert set(copied) == set(bundle.files) - {"plot.onnx", "CARD.md"}
    assert copied["fusion.onnx"] == (copy / "fusion.onnx").read_bytes()
    (copy / "fusion.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"fusion\.onnx differs"):
        bundle.copy_to(tmp_path / "newer")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "else"}', "\x00" * 9, "[" * 100_000])
def test_a_damaged_manifest_is_refused(copy: Path, content: str) -> None:
    (copy / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match="download or export the bundle again") as caught:
        Bundle(copy)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_names_files_outside_is_refused(copy: Path) -> None:
    content = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    here = ["../outside.txt", "/etc/passwd", "a/../../outside.txt", ""]
    windows = ["C:secret", "C:/secret", "\\Windows\\x", "..\\x", "a\\..\\..\\x", "\\\\server\\share\\x"]
    for name in (*here, *windows):
        edit(copy / MANIFEST, "files", {**content["files"], name: {"sha256": "0" * 64, "bytes": 1}})
        with pytest.raises(BundleError, match="broken list of files"):
            Bundle(copy)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to every value in a JSON value; of lists, to their first entry."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@pytest.mark.slow
def test_any_value_anywhere_in_its_configuration_is_refused_in_one_line_or_read(copy: Path) -> None:
    text = (copy / CONFIG).read_text(encoding="utf-8")
    outcomes = Counter[str]()
    for *way, key in filter(None, places(json.loads(text))):
        for new in (None, True, -1, 0.5, 1e300, "", "a", "../../etc/passwd", [], ["A"], {}):
            content = json.loads(text)
            parent = content
            for step in way:
                parent = parent[step]
            parent[key] = new
            (copy / CONFIG).write_text(json.dumps(content), encoding="utf-8")
            seal(copy)
            try:
                prediction = load(copy).predict(plot="a ghost and a vampire")
                assert all(0.0 <= value <= 1.0 for value in prediction.probabilities.values())
            except MmgcsError as error:
                assert "\n" not in str(error)
                outcomes["refused"] += 1
            else:
                outcomes["read"] += 1  # a name, or a threshold
    assert outcomes["refused"] > 50
    assert outcomes["read"] > 10


def test_a_graph_that_onnxruntime_cannot_load_is_named(copy: Path) -> None:
    (copy / "plot.onnx").write_bytes(b"not a graph")
    seal(copy)
    with pytest.raises(BundleError, match=r"plot\.onnx cannot be loaded") as caught:
        load(copy).predict(plot="love")
    assert "\n" not in str(caught.value)


def test_a_graph_with_tensors_in_other_files_is_refused_when_it_is_read_or_verified(copy: Path) -> None:
    graph = onnx.load(copy / "plot.onnx")
    (tensor, *_) = graph.graph.initializer
    set_external_data(tensor, "../../secret.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (copy / "plot.onnx").write_bytes(graph.SerializeToString())
    seal(copy)
    with pytest.raises(BundleError, match=r"plot\.onnx keeps tensors in other files"):
        load(copy).predict(plot="love")
    assert any("keeps tensors in other files" in problem for problem in Bundle(copy).check())


def test_a_word_location_in_a_graph_is_no_external_data(copy: Path) -> None:
    graph = onnx.load(copy / "plot.onnx")
    graph.doc_string = "the location of a film"
    onnx.save(graph, copy / "plot.onnx")
    seal(copy)
    assert Bundle(copy).check() == []


def record(bundle: Path, shift: float = 0.0) -> None:
    rows = record_samples(load(bundle))
    rows[0]["probabilities"] = {genre: value + shift for genre, value in rows[0]["probabilities"].items()}
    (bundle / CARD_JSON).write_text(json.dumps({CARD_KEY: rows}), encoding="utf-8")
    seal(bundle)


def test_verify_passes_a_bundle_whose_files_graphs_and_card_agree(copy: Path) -> None:
    record(copy)
    checks = verify(copy)
    assert [(check.name, check.passed) for check in checks] == [("sums", True), ("predicts", True), ("card", True)]
    assert "recorded predictions is 0.0000" in checks[-1].detail


def test_a_card_that_says_something_else_is_found(copy: Path) -> None:
    record(copy, shift=0.2)
    assert [check.passed for check in verify(copy)] == [True, True, False]


def test_a_changed_file_is_found_before_anything_is_run(copy: Path) -> None:
    (copy / "poster.onnx").write_bytes(b"changed")
    (check,) = verify(copy)
    assert not check.passed
    assert "poster.onnx" in check.detail


def test_a_graph_that_does_not_run_is_found(copy: Path) -> None:
    (copy / "poster.onnx").write_bytes(b"changed")
    seal(copy)
    assert [check.passed for check in verify(copy)] == [True, False]


@pytest.mark.parametrize("content", ["{", "[]", '{"sample_predictions": [{"id": 3}, 7]}'])
def test_a_card_that_cannot_be_read_fails_verify_in_one_line(
    content: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / CARD_JSON).write_text(content, encoding="utf-8")
    seal(copy)
    assert main(["verify", str(copy)]) == 1
    captured = capsys.readouterr()
    assert "WRONG  card" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    "command", [["verify"], ["predict", "--plot", "a ghost", "--model"]], ids=lambda command: command[0]
)
def test_the_folder_of_a_training_says_where_its_bundle_is(
    command: list[str], copy: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    copy.rename(run / "bundle")
    assert main([*command, str(run)]) == 2
    assert f"{run} is the folder of a training run; give its bundle, {run / 'bundle'}" in capsys.readouterr().err


def test_writing_that_fails_leaves_nothing_behind(tiny_bundle: Path, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half.onnx").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_bundle(tmp_path / "new", Bundle(tiny_bundle).config, fill)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_when_asked_and_nothing_else_ever_is(copy: Path, tmp_path: Path) -> None:
    config = Bundle(copy).config

    def fill(folder: Path) -> None:
        (folder / "new.txt").write_text("new", encoding="utf-8")

    with pytest.raises(UsageError, match="already holds a bundle"):
        write_bundle(copy, config, fill)
    assert write_bundle(copy, config, fill, replace=True).files.keys() == {"new.txt", "bundle.json"}
    other = tmp_path / "papers"
    other.mkdir()
    (other / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is not a bundle"):
        write_bundle(other, config, fill, replace=True)
    assert (other / "thesis.txt").read_text(encoding="utf-8") == "mine"


def flipped(place: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        index = min(int(len(data) * place), len(data) - 1)
        return data[:index] + bytes([data[index] ^ 0x20]) + data[index + 1 :]

    return change


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "first byte": flipped(0.0),
    "a byte in the middle": flipped(0.5),
    "last byte": flipped(1.0),
    "cut in half": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "a byte more": lambda data: data + b"\n",
    "zeros": lambda data: bytes(len(data)),
}


def refused(path: Path) -> list[str]:
    """Return why a bundle is refused, one line each."""
    try:
        return Bundle(path).check()
    except MmgcsError as error:
        return [str(error)]


def test_every_file_changed_in_any_way_is_refused(copy: Path) -> None:
    names = [path for path in sorted(copy.rglob("*")) if path.is_file()]
    assert len(names) > 4
    for path in names:
        whole = path.read_bytes()
        for what, change in DAMAGE.items():
            path.write_bytes(change(whole))
            if path.name == MANIFEST and what in ("last byte", "a byte more"):
                continue  # white space after the end of JSON does not matter
            lines = refused(copy)
            assert lines, f"{path.name}: {what}"
            assert all("\n" not in line for line in lines)
        path.unlink()
        assert refused(copy), f"{path.name}: removed"
        path.mkdir()
        assert refused(copy), f"{path.name}: a folder in its place"
        path.rmdir()
        for target in (path.name, "/dev/zero", None):  # a link to itself, a device, a pipe
            path.symlink_to(target) if target else os.mkfifo(path)
            (line,) = refused(copy)
            assert str(path) in line
            assert target == path.name or "it is a pipe or a device" in line
            path.unlink()
        path.write_bytes(whole)
    assert refused(copy) == []


def test_a_prediction_never_uses_a_changed_file(copy: Path) -> None:
    config = Bundle(copy).config
    for name in (CONFIG, config.fusion, *(branch.graph for branch in config.branches if branch.input == "plot")):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(flipped(0.5)(whole))
        with pytest.raises(BundleError, match="differs from its SHA-256"):
            load(copy).predict(plot="Two detectives hunt a killer.")
        (copy / name).write_bytes(whole)
