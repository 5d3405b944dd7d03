"""A bundle whose files were changed in any way is refused in one line, never used."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmgcs import load
from mmgcs.bundle import CONFIG, MANIFEST, Bundle, seal
from mmgcs.errors import BundleError, MmgcsError


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
    """Why a bundle is refused, a line each; nothing where it is not."""
    try:
        return Bundle(path).check()
    except MmgcsError as error:
        return [str(error)]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_every_file_changed_in_any_way_is_refused(bundle: Path) -> None:
    names = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    assert len(names) > 4
    assert refused(bundle) == []
    for path in names:
        whole = path.read_bytes()
        for what, change in DAMAGE.items():
            path.write_bytes(change(whole))
            if path.name == MANIFEST and what in ("last byte", "a byte more"):
                continue  # white space after the end of JSON says nothing
            lines = refused(bundle)
            assert lines, f"{path.name}: {what}"
            assert all("\n" not in line for line in lines)
        path.unlink()
        assert refused(bundle), f"{path.name}: removed"
        path.mkdir()
        assert refused(bundle), f"{path.name}: a folder in its place"
        path.rmdir()
        path.symlink_to(path.name)
        assert refused(bundle), f"{path.name}: a link to itself"
        path.unlink()
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_in_place_of_a_file_is_refused_and_not_waited_for(bundle: Path, kind: str) -> None:
    for path in [path for path in sorted(bundle.rglob("*")) if path.is_file()]:
        aside = path.rename(bundle.parent / "aside")
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        (line,) = refused(bundle)
        assert str(path) in line
        assert "it is a pipe or a device" in line
        path.unlink()
        aside.rename(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("../../etc/passwd"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def alike(value: Any) -> st.SearchStrategy[Any]:
    """Values that could stand in the place of this one: most of them can be read."""
    if isinstance(value, str):
        return st.text(min_size=1, max_size=8)
    if isinstance(value, float):
        return st.floats(0.01, 0.99)
    return st.just(value)


def at(value: Any, path: tuple[Any, ...]) -> Any:
    return value if not path else at(value[path[0]], path[1:])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    if isinstance(value, dict):
        inner = [place for key, item in value.items() for place in places(item, (*path, key))]
    elif isinstance(value, list):
        inner = [place for index, item in enumerate(value[:3]) for place in places(item, (*path, index))]
    else:
        inner = []
    return [path, *inner]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("what", ["a byte in the middle", "cut in half"])
def test_a_prediction_never_uses_a_changed_file(bundle: Path, what: str) -> None:
    config = Bundle(bundle).config
    for name in (CONFIG, config.fusion, *(branch.graph for branch in config.branches if branch.input == "plot")):
        path = bundle / name
        whole = path.read_bytes()
        path.write_bytes(DAMAGE[what](whole))
        with pytest.raises(BundleError, match="differs from its SHA-256"):
            load(bundle).predict(plot="Two detectives hunt a killer.")
        path.write_bytes(whole)


@pytest.mark.slow
def test_any_value_anywhere_in_its_configuration_is_refused_in_one_line_or_read(bundle: Path) -> None:
    content = json.loads((bundle / CONFIG).read_text(encoding="utf-8"))
    outcomes = Counter[str]()

    @settings(max_examples=250, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(places(content)), st.data())
    def check(path: tuple[Any, ...], data: st.DataObject) -> None:
        new = data.draw(VALUES | alike(at(content, path)))
        (bundle / CONFIG).write_text(json.dumps(replaced(content, path, new)), encoding="utf-8")
        seal(bundle)
        try:
            prediction = load(bundle).predict(plot="a ghost and a vampire")
            assert all(0.0 <= value <= 1.0 for value in prediction.probabilities.values())
            outcomes["read"] += 1
        except MmgcsError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1

    check()
    assert outcomes["refused"] > 50
    assert outcomes["read"] > 10  # a name, or a threshold
