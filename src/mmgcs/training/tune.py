"""Search a recipe's settings with Optuna's tree-structured Parzen estimator and median pruning, in an SQLite file.

TPE: Bergstra et al. 2011; median rule: Golovin et al. 2017 (Vizier); Optuna: Akiba et al. 2019. A trial trains the
branches whose settings are searched; its score is the mean of their macro average precisions on `valid`.
"""

from __future__ import annotations

import csv
import logging
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import yaml
from optuna.trial import FrozenTrial, Trial, TrialState
from torch.multiprocessing.spawn import spawn

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import atomic_path, atomic_writer
from mmgcs.training.branch import fit_branch
from mmgcs.training.fusion import choose_holdout
from mmgcs.training.labelled import Labelled, read_labelled
from mmgcs.training.module import NotFiniteError
from mmgcs.training.recipe import OWN_PLOTS, Recipe, change_recipe
from mmgcs.training.rundir import Log, Run, lock_run_dir
from mmgcs.training.trainer import explain_processes

_DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Tuned:
    """The result of a search."""

    recipe: Path  # the file of the best recipe
    score: float  # its macro average precision on `valid`
    settings: dict[str, Any]  # the searched settings and their best values
    trials: dict[str, int]  # the number of trials by outcome: "complete", "pruned", "fail"


def search_settings(
    recipe: Recipe,
    data: Path,
    posters: Path | None,
    out: Path,
    *,
    columns: Mapping[str, str] | None = None,
    trials: int = 20,
    workers: int = 1,
    resume: bool = False,
    log: Log = print,
) -> Tuned:
    """Search the settings that the recipe's `search` names.

    Args:
        recipe: the recipe; its own settings are the first trial.
        data: the table of films with genres and splits.
        posters: the folder its posters lie in.
        out: the search's folder: study.db, best.yaml, trials.csv, history.png, importance.png.
        columns: film field to the column it is read from, where the names differ.
        trials: the number of trials, including those of earlier calls.
        workers: processes that run trials in parallel.
        resume: continue the search in `out`.
        log: called with one line per trial.

    Raises:
        UsageError: there is nothing to search, a setting is unknown, or `out` holds another search.
        MmgcsError: no trial was completed.
    """
    _check_search(recipe)
    labelled = read_labelled(data, posters, recipe.genre_list(), recipe.target_source, recipe.sources(), columns)
    with lock_run_dir(out, recipe, labelled.fingerprint, resume, "search"), _quiet_optuna():
        study = _study(out, recipe.seed)
        if not study.trials:
            study.enqueue_trial(_own_settings(recipe), skip_if_exists=True)
        if workers == 1:
            _search(recipe, labelled, out, trials, 0, log)
        else:
            threads = max(1, torch.get_num_threads() // workers)
            with explain_processes():
                spawn(_work, (recipe, labelled, out, trials, threads), workers, daemon=True)  # type: ignore[no-untyped-call]
        shutil.rmtree(out / "caches", ignore_errors=True)
        return _report(study, recipe, out, log)


def _check_search(recipe: Recipe) -> None:
    if not recipe.search:
        raise UsageError(
            "the recipe has no `search`; name settings there, such as "
            "plot.training.lr: {low: 1.0e-5, high: 1.0e-3, log: true}"
        )
    for place, spread in recipe.search.items():
        if place.split(".")[0] not in recipe.branches:
            raise UsageError(f"search.{place}: only settings of {' and '.join(recipe.branches)} can be searched")
        for value in spread.choices or spread.bounds:
            change_recipe(recipe, {place: int(value) if spread.whole else value})
    posters = recipe.poster if any(place.startswith("poster.") for place in recipe.search) else None
    if posters and posters.distill and posters.distill.teacher == OWN_PLOTS:
        raise UsageError(
            "poster.distill.teacher: a trial has no finished plot branch to be the teacher; give a bundle's folder, or "
            "add --set poster.distill=null"
        )


def _own_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's own values of the searched settings, if they lie in the ranges."""
    found = {}
    for place, spread in recipe.search.items():
        value: Any = recipe.model_dump()
        for part in place.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if spread.choices is not None:
            inside = value in spread.choices
        else:
            inside = isinstance(value, int | float) and spread.bounds[0] <= value <= spread.bounds[1]
        if inside:
            found[place] = value
    return found


def _study(out: Path, seed: int) -> optuna.Study:
    return optuna.create_study(
        study_name="mmgcs",
        # Workers wait for each other's writes, for two minutes at most.
        storage=optuna.storages.RDBStorage(
            f"sqlite:///{out / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 120}}
        ),
        # Running trials of other workers count as bad, so that two workers do not try the same settings.
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        direction="maximize",
        load_if_exists=True,
    )


def _search(recipe: Recipe, data: Labelled, out: Path, trials: int, worker: int, log: Log) -> None:
    """Run trials until the study has `trials` of them."""
    study = _study(out, recipe.seed + worker)

    def tell(study: optuna.Study, trial: FrozenTrial) -> None:
        score = f" {trial.value:.4f}" if trial.value is not None else ""
        settings = " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())
        log(f"trial {trial.number}: {trial.state.name.lower()}{score}  {settings}")

    if len(study.get_trials(deepcopy=False, states=_DONE)) < trials:
        # Failed trials count too, or a search in which every loss is NaN would never end.
        limit = optuna.study.MaxTrialsCallback(trials, states=_DONE)
        study.optimize(lambda trial: _try(recipe, data, out, trial), callbacks=[tell, limit], catch=(NotFiniteError,))


def _work(number: int, recipe: Recipe, data: Labelled, out: Path, trials: int, threads: int) -> None:
    """Run trials in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the main process, which ends the workers
    torch.set_num_threads(threads)
    with _quiet_optuna():
        _search(recipe, data, out, trials, number, partial(print, file=sys.stderr, flush=True))


def _try(recipe: Recipe, data: Labelled, out: Path, trial: Trial) -> float:
    """Train the searched branches with a trial's settings and return their mean score."""
    settings: dict[str, Any] = {}
    for place, spread in recipe.search.items():
        if spread.choices is not None:
            settings[place] = trial.suggest_categorical(place, spread.choices)
        elif spread.whole:
            settings[place] = trial.suggest_int(place, *map(int, spread.bounds), log=spread.log)
        else:
            settings[place] = trial.suggest_float(place, *spread.bounds, log=spread.log)
    # A trial is never resumed, so it needs no checkpoints between validations.
    tried = change_recipe(recipe, {**settings, "checkpoint_steps": 10**9})
    folder = out / "trials" / str(trial.number)
    run = Run(tried, data, folder, log=lambda line: None, progress=False, caches=out / "caches")
    holdout = choose_holdout(tried, data)
    scores: list[float] = []
    seen: list[float] = []

    def watch(score: float) -> None:
        seen.append(score)
        trial.report(float(np.mean([*scores, score])), len(seen) - 1)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        for name in sorted({place.split(".")[0] for place in recipe.search}):
            trained = fit_branch(run, name, tried.branches[name], holdout, watch)
            scores.append(trained.score)
    finally:
        for checkpoint in folder.rglob("*.ckpt"):  # weights would fill the disk; curves stay
            checkpoint.unlink(missing_ok=True)
    return float(np.mean(scores))


def _report(study: optuna.Study, recipe: Recipe, out: Path, log: Log) -> Tuned:
    """Write the best recipe, the table of trials and the pictures."""
    ended = study.get_trials(deepcopy=False, states=_DONE)
    counts = {state.name.lower(): sum(trial.state == state for trial in ended) for state in _DONE}
    if not counts["complete"]:
        raise MmgcsError(f"none of {len(ended)} trials was completed; see {out}/trials, or search smaller ranges")
    best = study.best_trial
    with atomic_writer(out / "best.yaml") as handle:
        handle.write(f"# Trial {best.number} of {len(ended)}: macro average precision {best.value:.4f} on valid.\n")
        changed = change_recipe(recipe, best.params).model_dump(mode="json", exclude_unset=True)
        yaml.safe_dump(changed, handle, sort_keys=False, allow_unicode=True)
    with atomic_writer(out / "trials.csv") as handle:
        writer = csv.writer(handle)
        writer.writerow(["trial", "state", "valid_map", *recipe.search])
        for trial in ended:
            values = [trial.params.get(place) for place in recipe.search]
            writer.writerow([trial.number, trial.state.name.lower(), trial.value, *values])
    _draw_plots(study, counts["complete"], out, log)
    return Tuned(out / "best.yaml", float(study.best_value), dict(best.params), counts)


def _draw_plots(study: optuna.Study, complete: int, out: Path, log: Log) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from optuna.visualization import matplotlib as plots

    drawings: dict[str, Callable[[optuna.Study], Any]] = {"history": plots.plot_optimization_history}
    if complete >= 2:
        drawings["importance"] = plots.plot_param_importances
    for name, draw in drawings.items():
        try:
            figure = draw(study).figure
        except (RuntimeError, ValueError) as error:  # every trial has the same score
            log(f"no {name}.png: {error}")
            continue
        with atomic_path(out / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight")


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silence Optuna's log lines, which repeat ours, and its warnings about experimental features."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"optuna|mmgcs\.training\.tune")
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            logger.setLevel(level)
