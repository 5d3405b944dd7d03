"""A bundle is written whole, read checked, and refused with one line where it is damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import set_external_data

from mmgcs import load
from mmgcs.bundle import CARD_JSON, MANIFEST, Bundle, BundleConfig, seal, write_bundle
from mmgcs.cli import main
from mmgcs.errors import BundleError, UsageError


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


OUTSIDE_ON_WINDOWS = ["C:secret", "C:/secret", "\\Windows\\x", "..\\x", "a\\..\\..\\x", "\\\\server\\share\\x"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "else"}', "\x00" * 9, "[" * 100_000])
def test_a_damaged_manifest_is_refused(copy: Path, content: str) -> None:
    (copy / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match="download or export the bundle again") as caught:
        Bundle(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", "a/../../outside.txt", "", *OUTSIDE_ON_WINDOWS])
def test_a_manifest_that_names_files_outside_is_refused(copy: Path, name: str) -> None:
    content = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    edit(copy / MANIFEST, "files", {**content["files"], name: {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(BundleError, match="broken list of files"):
        Bundle(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("genres", []),
        ("branches", "x"),
        ("branches", [{"name": "plot"}]),
        ("decisions", {"plot": {}}),
        ("genres", ["A"]),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(copy: Path, key: str, value: object) -> None:
    edit(copy / "bundle.json", key, value)
    seal(copy)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle(copy)


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
