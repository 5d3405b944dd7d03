"""A training from recipe to bundle: read, fit the branches, fit the fusion, fit the decisions, write the bundle.

Every stage leaves its result in the run's folder and is skipped if it is there, so `--resume` continues an interrupted
run from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mmgcs.bundle import MANIFEST, Bundle, write_bundle
from mmgcs.errors import MmgcsError
from mmgcs.evaluation import fit_pictures
from mmgcs.files import write_json
from mmgcs.hub import SCHEME, fetch_dataset
from mmgcs.labels import label_notes
from mmgcs.machine import keep_memory, peak_memory
from mmgcs.models import FUSIONS
from mmgcs.runtime import Classifier, write_carded_bundle
from mmgcs.training.assemble import FinishedBranch, assemble
from mmgcs.training.branch import check_branches, train_branch
from mmgcs.training.card import card_text, make_card, scores_line
from mmgcs.training.fusion import FusionFilms, choose_holdout, choose_seen, fit_decisions, train_fusion
from mmgcs.training.head import LEAST_FILMS, train_head
from mmgcs.training.labelled import Labelled, learned_languages, read_labelled, read_own
from mmgcs.training.recipe import Recipe, read_recipe
from mmgcs.training.rundir import Log, Run, lock_run_dir
from mmgcs.training.trainer import check_devices

RESOURCES = "resources.json"
"""The file in a run's folder that says how much memory and disk the training used."""


def train(
    recipe: Recipe | Path | str,
    data: Path | str,
    out: Path | str,
    *,
    posters: Path | str | None = None,
    settings: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    resume: bool = False,
    command: str = "",
    log: Log = print,
    devices: int = 1,
    progress: bool = True,
) -> Bundle:
    """Train what a recipe says and write the bundle to `out`/bundle.

    Args:
        recipe: what to train: a recipe, its name, or its file.
        data: the table of films with genres and splits, or a data set of the Hugging Face hub (hf:owner/name).
        out: the run's folder; new, or with `resume` one that an earlier call left.
        posters: the folder that the table's posters lie in.
        settings: changes of a recipe given by name or file, such as "plot.training.epochs=1".
        columns: fields of a film and the columns they are read from, such as {"plot": "synopsis"}.
        resume: continue where the earlier call stopped.
        command: the command line, recorded in the model card.
        log: called with one line per step.
        devices: processes (CPU) or GPUs to train on. They share each batch.
        progress: show progress: bars on a terminal, one line a minute elsewhere.

    Raises:
        UsageError: `out` exists and `resume` is not given, or the run was made with another recipe or data.
        MmgcsError: training failed; finished stages and checkpoints are kept.
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, list(settings))
    data, out = fetch_dataset(str(data)) if str(data).startswith(SCHEME) else Path(data), Path(out)
    sizes = {f"{name}.training.batch_size": part.training.batch_size for name, part in recipe.branches.items()}
    check_devices(devices, sizes)
    keep_memory()
    labelled = read(recipe, data, None if posters is None else Path(posters), log, columns)
    with _explain_full_disk(out), lock_run_dir(out, recipe, labelled.fingerprint, resume):
        run = Run(recipe, labelled, out, command, log, devices, progress)
        if (out / "bundle" / MANIFEST).is_file() and (out / RESOURCES).is_file():
            log("the bundle is finished already")
            return Bundle(out / "bundle")
        if (out / "bundle" / MANIFEST).is_file():
            bundle = Bundle(out / "bundle")
        elif recipe.head is not None:
            bundle = train_head(run, recipe.head)
        else:
            holdout = choose_holdout(recipe, labelled)
            check_branches(run, holdout)
            branches = [train_branch(run, name, branch, holdout) for name, branch in recipe.branches.items()]
            bundle = finish(run, branches, holdout)
        log(scores_line(bundle.card()))
        memory, disk = peak_memory(), sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e9
        write_json(out / RESOURCES, {"peak_memory_gb": memory, "disk_gb": disk})
        used = f"peak memory {memory:.1f} GB, " if memory else ""
        log(f"the bundle is in {bundle.path}; {used}{disk:.1f} GB in {out}")
        return bundle


def read(
    recipe: Recipe, data: Path, posters: Path | None, log: Log, columns: Mapping[str, str] | None = None
) -> Labelled:
    """Read the films that a recipe trains on; log unreadable rows, and what `label_notes` finds."""
    genres, sources = recipe.genre_list(), recipe.sources()
    if recipe.head is not None:
        labelled = read_own(data, posters, genres, LEAST_FILMS, sources, columns)
    else:
        labelled = read_labelled(data, posters, genres, recipe.target_source, sources, columns)
    if labelled.problems:
        log(f"rows that cannot be read and are left out: {len(labelled.problems):,}; the first: {labelled.problems[0]}")
    for note in label_notes(labelled.films, labelled.genres, sources):
        log(note)
    return labelled


def finish(run: Run, branches: Sequence[FinishedBranch], holdout: NDArray[np.int64]) -> Bundle:
    """Fuse the branches, fit the decisions on `valid`, measure on `test`, and write the bundle."""
    data, specs = run.data, [branch.spec for branch in branches]
    heads = [branch.head for branch in branches]
    # A bundle of the parts computes features exactly as prediction does, including int8 graphs.
    parts = Classifier(write_bundle(run.folder / "parts", *assemble(run, branches), replace=True))

    def films(rows: NDArray[np.int64]) -> FusionFilms:
        features = parts.features([data.films[row] for row in rows])
        return FusionFilms(features, data.truth[rows], data.known[rows])

    run.log("computing the finished branches' features")
    valid = films(data.rows("valid"))
    fusion: nn.Module = FUSIONS["linear"](heads)
    held: FusionFilms | None = None
    if run.recipe.fusion is not None:
        held = films(holdout)
        seen = choose_seen(run.recipe, data, holdout)
        fusion = train_fusion(run, heads, held.and_also(films(seen)) if len(seen) else held, valid)

    run.log("fitting calibration and thresholds")
    decisions = fit_decisions(fusion, specs, valid, held, run.recipe.coverage)
    run.log("fitting the detector of strange pictures, finding the languages of the plots")
    extra = fit_pictures(parts, data.films, log=run.log)
    languages = run.recipe.languages or learned_languages(data.films)

    run.log("measuring the bundle for its card")
    whole = assemble(run, branches, fusion, decisions, extra, languages)

    def describe(classifier: Classifier) -> tuple[dict[str, Any], str]:
        card, report = make_card(run, classifier)
        return card, card_text(card, report)

    bundle = write_carded_bundle(run.folder / "bundle", *whole, describe, replace=True)
    shutil.rmtree(run.folder / "parts")
    return bundle


@contextlib.contextmanager
def _explain_full_disk(out: Path) -> Iterator[None]:
    """Turn the many errors of a full disk into one."""
    hook = threading.excepthook
    # TensorBoard writes in its own thread, whose error would be printed as a stack trace.
    threading.excepthook = lambda raised: None if _disk_is_full(raised.exc_value) else hook(raised)
    try:
        yield
    except Exception as error:
        if not _disk_is_full(error):
            raise
        raise MmgcsError(
            f"the disk of {out} is full; the last good checkpoint is kept: free space and resume with --resume"
        ) from error
    finally:
        threading.excepthook = hook


def _disk_is_full(error: BaseException | None) -> bool:
    """Return True if an error, or its cause, says that nothing more can be written."""
    while error is not None:
        # By its text: libraries in Rust and C++ have no errno. "File too large" is a limit on file sizes.
        if any(text in str(error) for text in ("No space left on device", "File too large", "Disk quota exceeded")):
            return True
        error = error.__cause__ or error.__context__
    return False
