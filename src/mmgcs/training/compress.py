"""A finished bundle made smaller: in int8, or in whatever way costs least on `valid` under a size.

Every way keeps the tokenizer, the fusion and the labels; the graphs change, so calibration, thresholds and the
detectors of strange inputs are fitted again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from mmgcs.bundle import MANIFEST, Branch, Decision
from mmgcs.errors import UsageError
from mmgcs.evaluation import average_precision, fit_decision
from mmgcs.film import Film
from mmgcs.labels import read_labels
from mmgcs.preprocess import Prepared
from mmgcs.runtime import Classifier, Features
from mmgcs.runtime.classifier import PreparedFilm, without
from mmgcs.training.finish import CALIBRATION_POSTERS, macro_f1
from mmgcs.training.levels import Graphs, Level, Plan, Source, describe

MEGABYTE = 1_000_000
"""Bytes of a megabyte, as disks and downloads count them."""

WORDS = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05)
"""Shares of a vocabulary's rows that are tried."""
NUMBERS = (1.0, 0.7, 0.5, 0.35)
"""Shares of the numbers of matrices that are tried."""
FEW = 400
"""Films that every plan is tried on first; only the `LAST` best are tried on all."""
LAST = 3
_ROOM = 24_000  # bytes that the card and the configuration may grow by


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a plan gives on `valid`.

    Attributes:
        plan: the plan.
        size: bytes of the bundle, about.
        precision: mean average precision, the mean over the combinations of inputs.
    """

    plan: Plan
    size: int
    precision: float


class Compression:
    """A bundle and the films that decide how it is made smaller."""

    def __init__(self, source: Source, films: Sequence[Film]) -> None:
        """Prepare films of the splits `train` and `valid`; others are not looked at.

        Raises:
            UsageError: no film of `valid` has all the inputs of one of the bundle's decisions.
        """
        self.source = source
        self.classifier = Classifier(source.bundle)
        config = source.bundle.config
        self.films = [film for film in films if film.genres and film.split in ("train", "valid")]
        chosen = [film for film in self.films if film.split == "valid"]
        ready = [(film, item) for film, item in zip(chosen, self.classifier.prepare(chosen), strict=True) if item.parts]
        self.truth = read_labels([film for film, _ in ready], config.genres)[0]
        self.present = np.array([[part is not None for part in item.parts] for _, item in ready], dtype=np.float32)
        self.present = self.present.reshape(len(ready), len(config.branches))
        shown = Features({}, self.present, [], [])
        for condition in config.decisions:
            if not shown.having(config.branches, condition.split("+")).any():
                what = condition.replace("+", " and ")
                raise UsageError(f"no film of split valid has a {what}; decisions are fitted on such films")
        self.graphs = {}
        for column, branch in enumerate(config.branches):
            learn = self._learn(branch, column)
            valid = [part for _, item in ready if (part := item.parts[column]) is not None]
            self.graphs[branch.name] = Graphs(source, branch, learn, valid)

    def _learn(self, branch: Branch, column: int) -> list[Prepared]:
        having = [film for film in self.films if film.split == "train" and getattr(film, branch.input)]
        if branch.input == "poster":  # decoding takes time, and a few are enough
            drawn = np.random.default_rng(0).permutation(len(having))[:CALIBRATION_POSTERS]
            having = [having[row] for row in drawn]
        other = "poster" if branch.input == "plot" else "plot"
        prepared: list[PreparedFilm] = self.classifier.prepare([without(film, other) for film in having])
        return [part for item in prepared if item.parts and (part := item.parts[column]) is not None]

    @cached_property
    def as_it_is(self) -> Plan:
        """The bundle's own plan."""
        kinds = dict.fromkeys(graphs.branch.kind for graphs in self.graphs.values())
        return {kind: Level(8 if all(one.is_int8 for one in self._of(kind)) else 32) for kind in kinds}

    @property
    def int8(self) -> Plan:
        """Every branch in int8.

        Raises:
            UsageError: a graph of posters must be quantised and there are no posters to measure its ranges on.
        """
        for graphs in self._of("pixels"):
            if not graphs.can_quantize:
                raise UsageError("int8 for posters needs posters to measure ranges on; give --posters")
        return {kind: Level(8) for kind in self.as_it_is}

    def _of(self, kind: str) -> list[Graphs]:
        return [graphs for graphs in self.graphs.values() if graphs.branch.kind == kind]

    def _levels(self, kind: str, *, int8: bool) -> list[Level]:
        own = self.as_it_is[kind]
        if kind != "tokens":
            smaller = [Level(8)] if own.bits > 8 and all(one.can_quantize for one in self._of(kind)) else []
            return smaller if int8 and smaller else [own, *smaller]
        words = WORDS if all(one.has_words for one in self._of(kind)) else WORDS[:1]
        small = [Level(bits, w, n) for bits in (8, 4) for w in words for n in NUMBERS]
        return [*([own] if own.bits > 8 and not int8 else []), *small]

    def plans(self, *, int8: bool = False) -> Iterator[Plan]:
        """Every plan that is tried."""
        kinds = list(self.as_it_is)
        for levels in itertools.product(*(self._levels(kind, int8=int8) for kind in kinds)):
            yield dict(zip(kinds, levels, strict=True))

    def size(self, plan: Plan) -> int:
        """Bytes of the bundle with a plan, about: its card and its configuration are not written yet."""
        files = self.source.bundle.files
        old: int = sum(files[graphs.branch.graph]["bytes"] for graphs in self.graphs.values())
        total: int = (
            sum(entry["bytes"] for entry in files.values()) + (self.source.bundle.path / MANIFEST).stat().st_size
        )
        return total - old + sum(graphs.size(plan[graphs.branch.kind]) for graphs in self.graphs.values())

    def logits(
        self, plan: Plan, films: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_]]]:
        """For each combination of inputs its name, and the logits and truth (films, genres) of films that have it.

        Args:
            plan: how the graphs are reduced.
            films: (films,) which of `valid`'s films are looked at; None for all.
        """
        config = self.source.bundle.config
        films = np.ones(len(self.truth), dtype=bool) if films is None else films
        values = {}
        for column, branch in enumerate(config.branches):
            there = self.present[:, column] > 0
            out = np.zeros((len(self.truth), branch.width), dtype=np.float32)
            out[there] = self.graphs[branch.name].features(plan[branch.kind], films[there])
            values[branch.name] = out[films]
        count = int(films.sum())
        some = Features(values, self.present[films], [()] * count, [""] * count)
        for condition in config.decisions:
            names = condition.split("+")
            having = some.having(config.branches, names)
            logits = self.classifier.logits(some.only(config.branches, names, having))
            yield condition, logits, self.truth[films][having]

    def outcome(self, plan: Plan, films: NDArray[np.bool_] | None = None) -> Outcome:
        """What a plan gives, on all of `valid`'s films or on some."""
        scores = [float(np.nanmean(average_precision(truth, logits))) for _, logits, truth in self.logits(plan, films)]
        return Outcome(plan, self.size(plan), float(np.mean(scores)))

    def decide(self, plan: Plan) -> tuple[dict[str, Decision], dict[str, float]]:
        """The decisions fitted for a plan, and each one's macro-F1 on the films that it was fitted on."""
        recipe = self.source.bundle.card().get("recipe") or {}
        fit = partial(fit_decision, coverage=float(recipe["coverage"])) if "coverage" in recipe else fit_decision
        decisions, scores = {}, {}
        for condition, logits, truth in self.logits(plan):
            decisions[condition] = fit(logits, truth)
            scores[condition] = macro_f1(logits, truth, decisions[condition])
        return decisions, scores

    def milliseconds(self, plan: Plan) -> float:
        """Time of a film with all inputs, its graphs alone, in ms."""
        return sum(graphs.milliseconds(plan[graphs.branch.kind]) for graphs in self.graphs.values())

    def search(self, size: int, *, int8: bool = False) -> list[Outcome]:
        """The plans under a size that keep most, the best on `valid` first.

        A plan that another under the size spares in every way is not tried: it could only be worse.

        Args:
            size: bytes at most.
            int8: leave float graphs out.

        Raises:
            UsageError: no plan is small enough.
        """
        sizes = [(plan, self.size(plan)) for plan in self.plans(int8=int8)]
        fitting = [plan for plan, there in sizes if there + _ROOM <= size]
        if not fitting:
            least, there = min(sizes, key=lambda pair: pair[1])
            need = (there + _ROOM) / MEGABYTE
            raise UsageError(
                f"{self.source.bundle.path} cannot be made smaller than {np.ceil(100 * need) / 100:.2f} MB "
                f"({describe(least)}); give --max-size-mb that much or more, or train a smaller model"
            )
        most = [
            plan
            for plan in fitting
            if not any(other != plan and all(other[k].spares(plan[k]) for k in plan) for other in fitting)
        ]
        if len(most) > LAST:
            few = self._few()
            most = sorted(most, key=lambda plan: -self.outcome(plan, few).precision)[:LAST]
        return sorted((self.outcome(plan) for plan in most), key=lambda outcome: -outcome.precision)

    def _few(self) -> NDArray[np.bool_]:
        """`FEW` films, those with the most inputs first: each combination of inputs needs some."""
        random = np.random.default_rng(0).permutation(len(self.truth))
        order = random[np.argsort(-self.present[random].sum(1), kind="stable")]
        few = np.zeros(len(self.truth), dtype=bool)
        few[order[:FEW]] = True
        return few
