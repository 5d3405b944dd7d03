"""Fixtures that every part of the tests shares: real small things, made in milliseconds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from windows import like_windows as like_windows

from mmgcs import load
from mmgcs.bundle import CARD_JSON, CARD_TEXT, Branch, BundleConfig, Decision, write_bundle
from mmgcs.genres import TEN_GENRES
from mmgcs.runtime import Classifier

# A busy machine is slow, not wrong.
# At home each run tries other examples; in CI all try the same, so that a failure is of the change that it came with.
settings.register_profile("mmgcs", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("mmgcs")

# Words that say a genre outright; with them the tiny model is right about plain plots.
KEYWORDS = {
    "Action": "explosion soldier fights battle war army mission",
    "Animation": "animated toy dragon puppet fairy",
    "Comedy": "hilarious misadventures comic silly bumbling",
    "Crime": "detective detectives gangster heist murder police robbery killer",
    "Documentary": "documentary archive interviews footage",
    "Drama": "family grief struggles life father mother",
    "Horror": "ghost vampire haunted monster zombie count",
    "Music": "band singer song concert piano",
    "Romance": "love falls lovers marriage wedding",
    "Thriller": "conspiracy chase suspect stalker killer hunt",
}
COMMON = "a an the of and to in is his her their with who by on for from at night village city two young man woman"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle (plot and poster branches, fusion, ten genres) that predicts; copy it before changing it."""
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", *" ".join([COMMON, *KEYWORDS.values()]).split()]))
    identity = Decision((1.0,) * 10, (0.0,) * 10, (0.5,) * 10, confidence=0.5)
    config = BundleConfig(
        name="tiny",
        genres=TEN_GENRES,
        branches=(
            Branch(
                name="plot",
                input="plot",
                kind="tokens",
                options={"tokenizer": "tokenizer.json", "max_tokens": 64, "pad_id": 0, "use_title": True},
                graph="plot.onnx",
                width=10,
                encoder="bag_of_words",
            ),
            Branch(
                name="poster",
                input="poster",
                kind="pixels",
                options={"height": 48, "width": 32},
                graph="poster.onnx",
                width=4,
                encoder="mean_colour",
            ),
        ),
        fusion="fusion.onnx",
        decisions={"plot": identity, "poster": identity, "plot+poster": identity},
    )

    def fill(folder: Path) -> None:
        _tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
        onnx.save(_plot_graph(vocabulary), folder / "plot.onnx")
        onnx.save(_poster_graph(), folder / "poster.onnx")
        onnx.save(_fusion_graph(), folder / "fusion.onnx")
        (folder / CARD_JSON).write_text(json.dumps({"name": "tiny", "genres": list(TEN_GENRES)}), encoding="utf-8")
        (folder / CARD_TEXT).write_text("# tiny\n\nA bundle for tests.\n", encoding="utf-8")

    write_bundle(path, config, fill)
    return path


def _tokenizer(vocabulary: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _plot_graph(vocabulary: list[str]) -> onnx.ModelProto:
    # features (B, 10) = the masked mean of rows of a (words, 10) table that holds 1 where a word says a genre
    table = np.zeros((len(vocabulary), 10), dtype=np.float32)
    for column, words in enumerate(KEYWORDS.values()):
        for word in words.split():
            table[vocabulary.index(word), column] = 1.0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),  # (B, L, 10)
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),  # (B, L)
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),  # (B, L, 1)
        helper.make_node("Mul", ["rows", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["total"], keepdims=0),  # (B, 10)
        helper.make_node("ReduceSum", ["mask", "one"], ["count"], keepdims=1),  # (B, 1)
        helper.make_node("Div", ["total", "count"], ["features"]),
    ]
    constants = {"table": table, "last": np.array([-1]), "one": np.array([1])}
    inputs = [("input_ids", TensorProto.INT64, ["B", "L"]), ("attention_mask", TensorProto.INT64, ["B", "L"])]
    return _model(nodes, inputs, ("features", ["B", 10]), constants)


def _poster_graph() -> onnx.ModelProto:
    # features (B, 4) = the mean colour (B, 3), mixed by a fixed matrix
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),  # (B, H, W, 3)
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2], keepdims=0),  # (B, 3)
        helper.make_node("Div", ["mean", "top"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "mix"], ["features"]),
    ]
    mix = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    constants = {"top": np.array([255.0], dtype=np.float32), "mix": mix}
    return _model(nodes, [("pixels", TensorProto.UINT8, ["B", "H", "W", 3])], ("features", ["B", 4]), constants)


def _fusion_graph() -> onnx.ModelProto:
    # logits (B, 10) = bias + sum over branches of present · (features @ weight)
    rng = np.random.default_rng(2)
    constants = {
        "bias": np.full(10, -1.0, dtype=np.float32),
        "weight_plot": (np.eye(10) * 40.0).astype(np.float32),
        "weight_poster": rng.normal(size=(4, 10)).astype(np.float32),
        "start_plot": np.array([0]),
        "start_poster": np.array([1]),
        "end_plot": np.array([1]),
        "end_poster": np.array([2]),
        "columns": np.array([1]),
    }
    nodes = []
    for name in ("plot", "poster"):
        nodes += [
            helper.make_node("Slice", ["present", f"start_{name}", f"end_{name}", "columns"], [f"there_{name}"]),
            helper.make_node("MatMul", [name, f"weight_{name}"], [f"raw_{name}"]),
            helper.make_node("Mul", [f"raw_{name}", f"there_{name}"], [f"term_{name}"]),
        ]
    nodes += [
        helper.make_node("Add", ["term_plot", "term_poster"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["logits"]),
    ]
    inputs = [(name, TensorProto.FLOAT, ["B", width]) for name, width in (("plot", 10), ("poster", 4), ("present", 2))]
    return _model(nodes, inputs, ("logits", ["B", 10]), constants)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, list[str | int]]],
    output: tuple[str, list[str | int]],
    constants: dict[str, np.ndarray],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def classifier(tiny_bundle: Path) -> Classifier:
    """The classifier of the tiny bundle."""
    return load(tiny_bundle)
