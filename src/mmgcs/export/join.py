"""Join bundles into one, with all their branches and one fusion graph that contains theirs. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from mmgcs.bundle import Branch, Bundle, BundleConfig, Decision
from mmgcs.preprocess import ENGLISH, LANGUAGES
from mmgcs.runtime import CARD_KEY, Classifier, record_samples, write_carded_bundle

OPSET = 18


def join_bundles(
    path: Path,
    name: str,
    genres: tuple[str, ...],
    members: Sequence[Bundle],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    decisions: Mapping[str, Decision],
    card: Mapping[str, Any],
    text: str,
) -> Bundle:
    """Write the bundle whose logits are Σ scale · the members' logits + shift.

    Args:
        path: the folder to make.
        name: the name of the new bundle.
        genres: the genres; every member knows them, in any order.
        members: the bundles.
        scale: (members, conditions, genres), the factors of the members' logits.
        shift: (conditions, genres).
        decisions: the decision for each condition, in the same order as the rows above.
        card: the card; predictions for sample films are added to it.
        text: the card in Markdown.

    Raises:
        UsageError: `path` exists already.
    """
    branches = [
        _renamed(branch, f"m{number}", member)
        for number, member in enumerate(members, 1)
        for branch in member.config.branches
    ]
    readers = [member.config for member in members if "plot" in member.config.inputs]
    shared = [code for code in LANGUAGES if readers and all(code in one.languages for one in readers)]
    languages = tuple(shared) or (ENGLISH,)
    config = BundleConfig(name, genres, tuple(branches), "fusion.onnx", decisions, languages=languages)
    graph = _fusion(genres, members, scale, branches, shift, list(decisions))

    def fill(folder: Path) -> None:
        for number, member in enumerate(members, 1):
            wanted = {branch.graph for branch in member.config.branches}
            wanted |= {file for branch in member.config.branches for file in _assets(branch, member)}
            member.copy_to(folder / f"m{number}", without=member.files.keys() - wanted)
        onnx.save(graph, folder / "fusion.onnx")

    def describe(classifier: Classifier) -> tuple[dict[str, Any], str]:
        return {**card, CARD_KEY: record_samples(classifier)}, text

    return write_carded_bundle(path, config, fill, describe)


def _assets(branch: Branch, bundle: Bundle) -> list[str]:
    return [value for value in branch.options.values() if isinstance(value, str) and value in bundle.files]


def _renamed(branch: Branch, prefix: str, bundle: Bundle) -> Branch:
    files = _assets(branch, bundle)
    options = {key: f"{prefix}/{value}" if value in files else value for key, value in branch.options.items()}
    return replace(branch, name=f"{prefix}_{branch.name}", options=options, graph=f"{prefix}/{branch.graph}")


def _fusion(
    genres: tuple[str, ...],
    members: Sequence[Bundle],
    scale: NDArray[np.float32],
    branches: Sequence[Branch],
    shift: NDArray[np.float32],
    conditions: list[str],
) -> onnx.ModelProto:
    constants: dict[str, NDArray[np.generic]] = {"shift": shift, "axis": np.array([1], dtype=np.int64)}
    nodes = list(_condition(branches, conditions, constants))
    nodes.append(helper.make_node("MatMul", ["condition", "shift"], ["total_0"]))
    initializers, column = [], 0
    for number, member in enumerate(members, 1):
        prefix, config = f"m{number}_", member.config
        model = version_converter.convert_version(onnx.load_from_string(member.read(config.fusion)), OPSET)
        part = compose.add_prefix_graph(model.graph, prefix)
        constants[f"{prefix}first"] = np.array([column], dtype=np.int64)
        column += len(config.branches)
        constants[f"{prefix}last"] = np.array([column], dtype=np.int64)
        constants[f"{prefix}order"] = np.array([config.genres.index(genre) for genre in genres], dtype=np.int64)
        constants[f"{prefix}scale"] = scale[number - 1]
        nodes.append(
            helper.make_node("Slice", ["present", f"{prefix}first", f"{prefix}last", "axis"], [f"{prefix}present"])
        )
        nodes += part.node
        initializers += part.initializer
        nodes += [
            helper.make_node("Gather", [part.output[0].name, f"{prefix}order"], [f"{prefix}ordered"], axis=1),
            helper.make_node("MatMul", ["condition", f"{prefix}scale"], [f"{prefix}weight"]),
            helper.make_node("Mul", [f"{prefix}ordered", f"{prefix}weight"], [f"{prefix}term"]),
            helper.make_node("Add", [f"total_{number - 1}", f"{prefix}term"], [f"total_{number}"]),
        ]
    nodes.append(helper.make_node("Identity", [f"total_{len(members)}"], ["logits"]))
    inputs = [(branch.name, branch.width) for branch in branches] + [("present", len(branches))]
    graph = helper.make_graph(
        nodes,
        "ensemble",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name, width in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(genres)])],
        [*initializers, *(numpy_helper.from_array(value, name) for name, value in constants.items())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _condition(
    branches: Sequence[Branch], conditions: list[str], constants: dict[str, NDArray[np.generic]]
) -> list[onnx.NodeProto]:
    """Return nodes that compute `condition` (batch, conditions), 1 for the combination of inputs that a film has.

    Their constants are added to `constants`.
    """
    inputs = [name for name in ("plot", "poster") if name in conditions]
    reads = np.array([[branch.input == name for name in inputs] for branch in branches], dtype=np.float32)
    constants.update({"reads": reads, "zero": np.array(0.0, dtype=np.float32), "one": np.array(1.0, dtype=np.float32)})
    # A film with both inputs also counts as having each one alone; subtract those.
    constants["apart"] = apart = np.eye(len(conditions), dtype=np.float32)
    apart[-1, :-1] = -1.0
    return [
        helper.make_node("MatMul", ["present", "reads"], ["counts"]),
        helper.make_node("Clip", ["counts", "zero", "one"], ["has"]),
        helper.make_node("ReduceMin", ["has", "axis"], ["has_all"]),
        helper.make_node("Concat", ["has", "has_all"] if len(inputs) == 2 else ["has"], ["has_each"], axis=1),
        helper.make_node("MatMul", ["has_each", "apart"], ["condition"]),
    ]
