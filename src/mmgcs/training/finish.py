"""From a trained branch to a part of a bundle: its head, its graph, in int8 where that costs little."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from mmgcs.bundle import Branch, Bundle, BundleConfig, Decision, write_bundle
from mmgcs.evaluation import fit_decision
from mmgcs.export import export_encoder, export_fusion, quantize_dynamic, quantize_static
from mmgcs.files import write_json
from mmgcs.models import FUSIONS, Encoder
from mmgcs.runtime import DOMAIN, DOMAIN_FILE, Classifier, Domain
from mmgcs.training.bag import add_bag
from mmgcs.training.job import Run
from mmgcs.training.module import macro_average_precision
from mmgcs.training.recipe import BranchRecipe

CALIBRATION_POSTERS = 256


def finish_branch(
    run: Run,
    name: str,
    branch: BranchRecipe,
    module: nn.Module,
    head: tuple[Tensor, Tensor],
    rows: NDArray[np.int64],
    valid: NDArray[np.int64],
    score: float,
) -> None:
    """Put the linear model of tokens beside a trained encoder where the recipe says so, and export it with its head."""
    if branch.token_bag:
        weights = np.array([branch.source_weights.get(source, 1.0) for source in run.data.sources], dtype=np.float32)
        module, head, share, score = add_bag(module, head, run.data, rows, valid, weights[run.data.source[rows]])
        run.log(f"{name}: with {share} of a linear model of the tokens, {score:.4f}")
    save_file({"weight": head[0].contiguous(), "bias": head[1].contiguous()}, run.folder / name / "head.safetensors")
    export_branch(run, name, branch, module, head, rows, valid, score)


def export_branch(
    run: Run,
    name: str,
    branch: BranchRecipe,
    module: nn.Module,
    head: tuple[Tensor, Tensor],
    rows: NDArray[np.int64],
    valid: NDArray[np.int64],
    score: float,
) -> None:
    """Write a trained encoder's graph, in int8 where that costs little enough on `valid`, and its description."""
    folder = run.folder / name
    encoder: Encoder = module  # type: ignore[assignment]
    assets = folder / "assets"
    assets.mkdir(exist_ok=True)
    options = encoder.save_assets(assets)
    export_encoder(module.cpu(), folder / "float.onnx")
    spec = Branch(name, encoder.input, encoder.kind, options, f"{name}.onnx", encoder.width, branch.encoder.kind)
    result: dict[str, Any] = {"valid_map": score}
    graph = folder / "float.onnx"
    if branch.int8:
        graph = folder / "int8.onnx"
        if encoder.kind == "pixels":
            chosen = np.random.default_rng(run.recipe.seed).permutation(rows)[:CALIBRATION_POSTERS]
            preprocessor = encoder.preprocessor()
            films = [run.data.films[row] for row in chosen]
            quantize_static(
                folder / "float.onnx",
                graph,
                (preprocessor.collate(preprocessor.prepare([film])) for film in films),
            )
        else:
            quantize_dynamic(folder / "float.onnx", graph)
        scores = {}
        for kind in ("float", "int8"):
            part = write_part(run, [spec], {name: folder / f"{kind}.onnx"}, "linear", [head], folder / f"try-{kind}")
            classifier = Classifier(part)
            logits = classifier.logits(classifier.features([run.data.films[row] for row in valid]))
            truth = run.data.truth[valid]
            decision = fit_decision(logits, truth)
            scores[kind] = {
                "macro_f1": macro_f1(logits, truth, decision),
                "map": macro_average_precision(truth, logits),
            }
            shutil.rmtree(folder / f"try-{kind}")
        cost = 100.0 * (scores["float"]["macro_f1"] - scores["int8"]["macro_f1"])
        result["quantization"] = {**scores, "cost_points_macro_f1": cost}
        kept = cost <= branch.int8_may_cost
        run.log(f"{name}: int8 costs {cost:+.2f} points of macro-F1 on valid; {'kept' if kept else 'float is kept'}")
        if not kept:
            graph = folder / "float.onnx"
    write_json(
        folder / "branch.json",
        {"graph": graph.name, "options": options, "width": encoder.width, "input": encoder.input, "kind": encoder.kind,
         "encoder": branch.encoder.kind, **result},
    )  # fmt: skip


def macro_f1(logits: NDArray[np.float32], truth: NDArray[np.bool_], decision: Decision) -> float:
    """Macro-F1 of a decision rule."""
    from sklearn.metrics import f1_score

    from mmgcs.runtime import sigmoid

    chosen = sigmoid(logits * np.array(decision.slope) + np.array(decision.intercept)) >= np.array(decision.thresholds)
    return float(f1_score(truth, chosen, average="macro", zero_division=0))


def write_part(
    run: Run,
    specs: list[Branch],
    graphs: dict[str, Path],
    fusion: str | nn.Module,
    heads: list[tuple[Tensor, Tensor]],
    folder: Path,
    decisions: dict[str, Decision] | None = None,
    domain: Domain | None = None,
    finish: Callable[[Path], None] | None = None,
) -> Bundle:
    """Write a bundle of finished branches. Decisions are neutral where none are given."""
    module = fusion if isinstance(fusion, nn.Module) else FUSIONS[fusion](heads)
    genres = run.data.genres
    if decisions is None:
        ones, zeros = (1.0,) * len(genres), (0.0,) * len(genres)
        neutral = Decision(ones, zeros, (0.5,) * len(genres), 0.0)
        decisions = {"+".join(names): neutral for names in conditions([spec.input for spec in specs])}
    extra = {DOMAIN: domain.spec()} if domain is not None and domain.detectors else {}
    config = BundleConfig(run.recipe.name, genres, tuple(specs), "fusion.onnx", decisions, extra)

    def fill(target: Path) -> None:
        for spec in specs:
            shutil.copyfile(graphs[spec.name], target / spec.graph)
            for asset in (run.folder / spec.name / "assets").iterdir():
                shutil.copyfile(asset, target / asset.name)
        export_fusion(module, [spec.name for spec in specs], [spec.width for spec in specs], target / "fusion.onnx")
        if domain is not None and domain.detectors:
            (target / DOMAIN_FILE).write_bytes(domain.to_bytes())
        if finish is not None:
            finish(target)

    return write_bundle(folder, config, fill, replace=True)


def conditions(inputs: list[str]) -> list[tuple[str, ...]]:
    """The combinations of inputs that get a decision of their own: each alone and, of several, all."""
    alone: list[tuple[str, ...]] = [(name,) for name in inputs]
    return [*alone, tuple(inputs)] if len(inputs) > 1 else alone
