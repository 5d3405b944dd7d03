"""One branch's graph at any level of compression, and what it makes of the films that decide."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mmgcs.bundle import MANIFEST, Branch, Bundle
from mmgcs.errors import UsageError
from mmgcs.export import quantize_blocks, quantize_dynamic, quantize_static
from mmgcs.export.shrink import (
    Factors,
    factorise,
    is_int8,
    prune_vocabulary,
    pruning_saves,
    thin,
    to_float,
    word_tables,
)
from mmgcs.preprocess import PREPROCESSORS, Prepared
from mmgcs.runtime.branch import DYNAMIC
from mmgcs.runtime.classifier import BATCH, BATCHES
from mmgcs.training.finish import CALIBRATION_POSTERS

CALIBRATION_PLOTS = 256
"""Plots whose words the matrices see when they are made thinner."""


@dataclass(frozen=True, slots=True)
class Level:
    """How far branches of one kind are reduced.

    Attributes:
        bits: of the weights: 32 as they are in float, 8, or 4 in blocks (matrices only; tables keep 8).
        words: share of the rows of tables of words.
        numbers: share of the numbers of matrices.
    """

    bits: int = 32
    words: float = 1.0
    numbers: float = 1.0

    def __str__(self) -> str:
        parts = ["float" if self.bits == 32 else f"int{self.bits}"]
        parts += [f"{self.words:.0%} of the words"] if self.words < 1 else []
        parts += [f"{self.numbers:.0%} of the numbers"] if self.numbers < 1 else []
        return ", ".join(parts)

    def spares(self, other: Level) -> bool:
        """Whether this level keeps at least as much as the other in every way."""
        return self.bits >= other.bits and self.words >= other.words and self.numbers >= other.numbers


Plan = Mapping[str, Level]
"""A level for each kind of branch ("tokens", "pixels")."""


def describe(plan: Plan) -> str:
    """A plan in words."""
    names = {"tokens": "plots", "pixels": "posters"}
    return "; ".join(f"{names.get(kind, kind)} in {level}" for kind, level in plan.items())


@dataclass(frozen=True)
class Source:
    """What is made smaller.

    Attributes:
        bundle: a finished bundle.
        exact: the float graphs that a run keeps beside it, by branch; none of a bundle by itself.
    """

    bundle: Bundle
    exact: Mapping[str, Path]

    @classmethod
    def open(cls, path: Path) -> Source:
        """Open a run's folder or a bundle's.

        Raises:
            UsageError: it is neither, or the run is not finished.
        """
        if (path / MANIFEST).is_file():
            return cls(Bundle(path), {})
        if not (path / "run.json").is_file():
            raise UsageError(f"{path} is neither a run of mmgcs train nor a bundle; give the folder of one")
        if not (path / "bundle" / MANIFEST).is_file():
            raise UsageError(f"the run in {path} is not finished; go on with it: mmgcs train … --out {path} --resume")
        bundle = Bundle(path / "bundle")
        floats = {branch.name: path / branch.name / "float.onnx" for branch in bundle.config.branches}
        return cls(bundle, {name: file for name, file in floats.items() if file.is_file()})


class Graphs:
    """One branch's graph at any level, and its features of the films that decide."""

    def __init__(self, source: Source, branch: Branch, learn: Sequence[Prepared], valid: Sequence[Prepared]) -> None:
        self.branch = branch
        self._given = onnx.load_from_string(source.bundle.read(branch.graph))
        self._exact = source.exact.get(branch.name)
        self._preprocessor = PREPROCESSORS[branch.kind](branch.options, source.bundle.read)
        self._learn = learn
        self._valid = valid
        self._made: dict[tuple[int, float], onnx.ModelProto] = {}
        self._seen: dict[Level, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}

    @cached_property
    def in_float(self) -> onnx.ModelProto:
        """The graph in float: the run's own, or that of the int8 weights."""
        if self._exact is not None:
            return onnx.load(str(self._exact))
        return to_float(self._given) if self.is_int8 else self._given

    @cached_property
    def is_int8(self) -> bool:
        """Whether the bundle's own graph is in int8 already."""
        return is_int8(self._given)

    @cached_property
    def factors(self) -> dict[str, Factors]:
        """The factors of its matrices."""
        random = np.random.default_rng(0).permutation(len(self._learn))[:CALIBRATION_PLOTS]
        return factorise(self.in_float, self._batches([self._learn[row] for row in random]))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each token occurs in the plots to learn from.

        Raises:
            UsageError: there are none.
        """
        if not self._learn:
            raise UsageError("no film of split train has a plot; the words to keep are counted in those")
        return np.bincount(np.concatenate([item.value for item in self._learn])).astype(np.int64)

    def graph(self, level: Level) -> onnx.ModelProto:
        """The graph at a level."""
        made = self._unpruned(level)
        if level.words < 1:
            # Whatever their count, the tokens that every plot has: those that begin, end and fill it up.
            always = {int(token) for item in self._learn[:8] for token in (item.value[0], item.value[-1])} | {0, 1}
            return prune_vocabulary(made, self.counts, level.words, sorted(always))
        return made

    def size(self, level: Level) -> int:
        """Bytes of the graph at a level."""
        made = self._unpruned(level)
        return int(made.ByteSize()) - (pruning_saves(made, level.words) if level.words < 1 else 0)

    def _unpruned(self, level: Level) -> onnx.ModelProto:
        key = (level.bits, level.numbers)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    @property
    def can_quantize(self) -> bool:
        """Whether the graph can be, or is, in int8: the ranges of a graph of posters are measured on posters."""
        return self.is_int8 or self.branch.kind != "pixels" or len(self._learn) > 0

    def _make(self, bits: int, numbers: float) -> onnx.ModelProto:
        if numbers == 1 and (bits == 32 or (bits == 8 and self.is_int8)):
            return self._given
        plain = thin(self.in_float, self.factors, numbers) if numbers < 1 else self.in_float
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "float.onnx", Path(folder) / "small.onnx"
            onnx.save(plain, str(before))
            if self.branch.kind == "pixels":
                random = np.random.default_rng(0).permutation(len(self._learn))[:CALIBRATION_POSTERS]
                quantize_static(before, after, self._batches([self._learn[row] for row in random], 1))
            elif bits == 4:
                quantize_blocks(before, after)
            else:
                quantize_dynamic(before, after)
            return onnx.load(str(after))

    def features(self, level: Level, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Features (films, width) of the films that decide; those that are not `wanted` (films,) may be nought."""
        empty = np.zeros((len(self._valid), self.branch.width), np.float32), np.zeros(len(self._valid), bool)
        out, done = self._seen.setdefault(level, empty)
        rows = sorted(map(int, np.flatnonzero(wanted & ~done)), key=lambda row: self._valid[row].length)
        if rows:
            graph = self.graph(level)
            session = _session(graph)
            start = 0
            alone = DYNAMIC in graph.SerializeToString()  # as running does
            size = 1 if alone else BATCHES.get(self.branch.input, BATCH)
            for batch in self._batches([self._valid[row] for row in rows], size):
                (values,) = session.run(["features"], batch)
                out[rows[start : start + len(values)]] = values
                start += len(values)
            done[rows] = True
        return out

    @property
    def has_words(self) -> bool:
        """Whether the graph has tables of words that can lose some."""
        return bool(word_tables(self._given))

    def milliseconds(self, level: Level, films: int = 48) -> float:
        """The median time of one film by itself, in ms."""
        session = _session(self.graph(level))
        taken = []
        for batch in self._batches(self._valid[:films], 1):
            begun = time.perf_counter()
            session.run(["features"], batch)
            taken.append(1000.0 * (time.perf_counter() - begun))
        return float(np.median(taken)) if taken else 0.0

    def _batches(self, items: Sequence[Prepared], size: int = BATCH) -> Iterator[dict[str, NDArray[Any]]]:
        return (self._preprocessor.collate(items[start : start + size]) for start in range(0, len(items), size))


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
