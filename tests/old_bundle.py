"""Make the bundle of format 1.0 that tests/data/bundle-1.0 keeps.

    python tests/old_bundle.py

It was made once, when 1.0 was the newest format, and is not to be made again: it stands for the bundles that people
have. Two genres; the plot's features count words, and the fusion weighs them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from mmgcs.bundle import seal

FOLDER = Path(__file__).parent / "data" / "bundle-1.0"
GENRES = ["Comedy", "Horror"]
WORDS = ["[PAD]", "[UNK]", "funny", "silly", "joke", "vampire", "ghost", "grave"]


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list]], output: str, constants: dict
) -> onnx.ModelProto:
    """A checked graph with one output of two numbers a film."""
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["B", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def main() -> None:
    """Write the folder."""
    FOLDER.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(FOLDER / "tokenizer.json"))

    table = np.zeros((len(WORDS), 2), dtype=np.float32)
    table[2:5, 0] = table[5:8, 1] = 1.0
    counting = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),  # (B, T, 2)
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),  # (B, T)
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),  # (B, T, 1)
        helper.make_node("Mul", ["rows", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["features"], keepdims=0),  # (B, 2)
    ]
    tokens = {name: (TensorProto.INT64, ["B", "T"]) for name in ("input_ids", "attention_mask")}
    onnx.save(model(counting, tokens, "features", {"table": table, "last": [-1], "one": [1]}), FOLDER / "plot.onnx")

    weighing = [
        helper.make_node("MatMul", ["plot", "weight"], ["weighed"]),
        helper.make_node("Mul", ["weighed", "present"], ["there"]),
        helper.make_node("Add", ["there", "bias"], ["logits"]),
    ]
    constants = {"weight": np.eye(2, dtype=np.float32) * 3, "bias": np.full(2, -1.0, dtype=np.float32)}
    inputs = {"plot": (TensorProto.FLOAT, ["B", 2]), "present": (TensorProto.FLOAT, ["B", 1])}
    onnx.save(model(weighing, inputs, "logits", constants), FOLDER / "fusion.onnx")

    # By hand and not through BundleConfig, which knows keys that came later.
    branch = {
        "name": "plot",
        "input": "plot",
        "kind": "tokens",
        "options": {"tokenizer": "tokenizer.json", "max_tokens": 32, "pad_id": 0, "use_title": True},
        "graph": "plot.onnx",
        "width": 2,
        "encoder": "bag_of_words",
    }
    decision = {"slope": [1.0, 1.0], "intercept": [0.0, 0.0], "thresholds": [0.5, 0.5], "confidence": 0.6}
    config = {
        "name": "old",
        "genres": GENRES,
        "branches": [branch],
        "fusion": "fusion.onnx",
        "decisions": {"plot": decision},
        "extra": {},
    }
    (FOLDER / "bundle.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (FOLDER / "card.json").write_text(json.dumps({"name": "old", "genres": GENRES}, indent=2) + "\n", encoding="utf-8")
    (FOLDER / "CARD.md").write_text("# old\n\nA bundle of format 1.0, kept for a test.\n", encoding="utf-8")
    seal(FOLDER)


if __name__ == "__main__":
    main()
