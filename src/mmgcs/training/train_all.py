"""Train several recipes and report on them: a plan of steps, each skipped if it is done."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from mmgcs.bundle import MANIFEST
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import sha256, write_json
from mmgcs.training.data import read_labelled
from mmgcs.training.recipe import PARTS, Recipe, check_recipe, find_recipe, read_recipe
from mmgcs.training.run import train
from mmgcs.training.rundir import Log
from mmgcs.training.train_all_report import report_is_current, write_summary

_GLOVE = re.compile(r"glove\.6B\.(\d+)d\.txt$")
_FILES = ("data.json", "posters.json", "films.jsonl", "report.json", "report.md", "report.html")
"""The files that the steps write into the folder itself."""


@dataclass(frozen=True)
class Step:
    """One step of the plan.

    Attributes:
        name: its name.
        what: what it does, in words.
        done: returns True if its result is there, from the current data and models.
        run: does it.
    """

    name: str
    what: str
    done: Callable[[], bool]
    run: Callable[[], None]


@dataclass(frozen=True)
class TrainAllOptions:
    """The options of `mmgcs train-all`.

    Attributes:
        data: the table of films with genres and splits.
        posters: the folder its posters lie in; missing ones are downloaded into it.
        out: the folder of the results: one folder per recipe, and the report.
        recipes: each recipe by its name.
        settings: the changed settings, for the model cards.
        glove: a local file (or archive) of word vectors; None to download them.
        fetch: False to download nothing.
        base_url: the address before a `poster_path`; None for TMDB's.
        allow_private: also download from private addresses.
        devices, progress: as in `train`.
        log: called with one line per step.
    """

    data: Path
    posters: Path
    out: Path
    recipes: dict[str, Recipe]
    settings: tuple[str, ...] = ()
    glove: Path | None = None
    fetch: bool = True
    base_url: str | None = None
    allow_private: bool = False
    devices: int = 1
    progress: bool = True
    log: Log = field(default=print)

    @property
    def table(self) -> Path:
        """Return the table to train on: the given one, or the copy with the downloaded posters."""
        fetched = self.out / "films.jsonl"
        return fetched if _made_from(self.out / "posters.json", sha256(self.data)) else self.data

    @property
    def shown(self) -> Path | None:
        """Return the folder of posters, or None if it does not exist yet."""
        return self.posters if self.posters.is_dir() else None


def read_recipes(names: list[str], settings: list[str]) -> dict[str, Recipe]:
    """Read and check the recipes, each with the settings that apply to it.

    Args:
        names: names or paths.
        settings: KEY=VALUE for every recipe that has the part, or RECIPE:KEY=VALUE for one.

    Raises:
        UsageError: a recipe does not exist or is wrong, or two have one name.
    """
    recipes: dict[str, Recipe] = {}
    for name in names:
        path = find_recipe(name)
        if path.stem in recipes:
            raise UsageError(f"the recipe {path.stem} was given twice; give each once")
        plain = read_recipe(path)
        own = []
        for setting in settings:
            key = setting.partition("=")[0]
            only, colon, _ = key.partition(":")
            part = key.rpartition(":")[2].split(".")[0]
            lacks = part in PARTS and getattr(plain, part) is None
            if (not colon or only == path.stem) and not lacks:
                own.append(setting.partition(":")[2] if colon else setting)
        recipes[path.stem] = read_recipe(path, own)
        check_recipe(recipes[path.stem])
    for setting in settings:
        only, colon, _ = setting.partition("=")[0].partition(":")
        if colon and only not in recipes:
            raise UsageError(f"--set {setting}: no recipe {only} is trained; trained are {', '.join(recipes)}")
    return recipes


def make_plan(options: TrainAllOptions) -> list[Step]:
    """Return the steps in order. Nothing is written.

    Raises:
        UsageError: the data cannot be trained on, `out` holds other files, or something is missing that cannot be
            downloaded.
    """
    _check_free(options.out)
    for recipe in options.recipes.values():
        labelled = read_labelled(
            options.data, options.shown, recipe.genre_list(), recipe.target_source, recipe.sources()
        )
        if not (labelled.split == "test").any():
            raise UsageError(
                f"{options.data} has no films of the split 'test' to measure on; make splits: mmgcs data split"
            )
    steps = [
        Step(
            "check",
            "look for leaks: films that belong together in different splits",
            lambda: _made_from(options.out / "data.json", sha256(options.data)),
            lambda: _check(options),
        )
    ]
    steps += [_glove_step(options, path) for path in _vectors(options)]
    lacking = len(_lacking_posters(options))
    made = options.out / "posters.json"
    if lacking or made.is_file():
        what = f"download {lacking:,} missing posters into {options.posters}"
        steps.append(
            Step("posters", what, lambda: _made_from(made, sha256(options.data)), lambda: _fetch_posters(options))
        )
    for name in options.recipes:
        steps += _recipe_steps(options, name)
    return [
        *steps,
        Step(
            "report",
            f"write {options.out}/report.html, .md and .json, with curves",
            lambda: report_is_current(options.out, list(options.recipes)),
            lambda: write_summary(options.out, list(options.recipes)),
        ),
    ]


def _check_free(out: Path) -> None:
    """Raise UsageError if steps would replace files that an earlier `train-all` did not write."""
    try:
        ours = "made_from" in json.loads((out / "data.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        ours = False
    for name in () if ours else _FILES:
        if (out / name).exists():
            raise UsageError(f"{out / name} exists and was not written by mmgcs train-all; give another --out")


def run_plan(steps: list[Step], log: Log) -> list[str]:
    """Run the steps that are not done. Return their names."""
    worked = []
    for number, step in enumerate(steps, 1):
        if step.done():
            log(f"[{number}/{len(steps)}] {step.name}: already done")
            continue
        log(f"[{number}/{len(steps)}] {step.name}: {step.what}")
        step.run()
        worked.append(step.name)
    return worked


def _recipe_steps(options: TrainAllOptions, name: str) -> list[Step]:
    folder = options.out / name
    bundle = folder / "bundle"

    def learn() -> None:
        command = ["mmgcs", "train-all", "--data", options.data.name, "--out", options.out.name, "--recipes", name]
        for setting in options.settings:
            command += ["--set", setting]
        train(
            options.recipes[name],
            options.table,
            options.shown,
            folder,
            resume=True,
            command=shlex.join(command),
            log=options.log,
            devices=options.devices,
            progress=options.progress,
        )

    def learned() -> bool:
        # For a bundle of another recipe or other data, training raises its own error.
        if not (bundle / MANIFEST).is_file():
            return False
        state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        same = state["recipe"] == options.recipes[name].model_dump(mode="json")
        return bool(same and state["data"] == sha256(options.table))

    def current(file: Path) -> Callable[[], bool]:
        return lambda: learned() and _made_from(file, sha256(bundle / MANIFEST))

    return [
        Step(f"train {name}", f"train and export to {bundle}", learned, learn),
        Step(
            f"evaluate {name}",
            "measure it on test",
            current(folder / "evaluation" / "made.json"),
            lambda: _evaluate(options, folder),
        ),
        Step(
            f"verify {name}",
            "check checksums, predictions and card",
            current(folder / "verify.json"),
            lambda: _verify(folder),
        ),
    ]


def _made_from(path: Path, fingerprint: str) -> bool:
    """Return True if a step's result is there and was made from the file with this SHA-256."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["made_from"] == fingerprint)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check(options: TrainAllOptions) -> None:
    from mmgcs.datasets import find_leaks, read_films

    frame = read_films(options.data).frame
    leaks = find_leaks(frame)
    if leaks:
        options.log(
            f"{len(leaks):,} pairs of films belong together but are in different splits, so scores will be too high;"
        )
        options.log("mmgcs data split makes splits without leaks")
    counts = {name: int((frame["split"] == name).sum()) for name in ("train", "valid", "test")}
    write_json(
        options.out / "data.json",
        {"made_from": sha256(options.data), "data": options.data.name, "splits": counts, "leaks": len(leaks)},
    )


def _vectors(options: TrainAllOptions) -> list[Path]:
    """Return the files of word vectors that recipes name, each once."""
    named = [
        branch.encoder.options["glove"]
        for recipe in options.recipes.values()
        for branch in recipe.branches.values()
        if branch.encoder.options.get("glove")
    ]
    return [Path(name) for name in dict.fromkeys(named)]


def _glove_step(options: TrainAllOptions, path: Path) -> Step:
    match = _GLOVE.search(path.name)
    if not path.is_file() and (match is None or not (options.fetch or options.glove)):
        fix = "get it with mmgcs data glove, or give --glove FILE" if match else "give a file that exists"
        raise UsageError(f"there are no word vectors at {path}; {fix}")
    if not path.is_file() and options.glove is not None and not options.glove.is_file():
        raise UsageError(f"--glove {options.glove} is not a file; give glove.6B.zip, or a .txt or .txt.gz of vectors")

    def get() -> None:
        from mmgcs.datasets import get_glove

        assert match is not None
        get_glove(path.parent, int(match[1]), source=options.glove)

    where = f"take the word vectors from {options.glove}" if options.glove else "download the word vectors (862 MB)"
    return Step("glove", f"{where} into {path}", path.is_file, get)


def _lacking_posters(options: TrainAllOptions) -> pl.DataFrame:
    """Return the films without a poster file but with an address; none if nothing may be downloaded."""
    from mmgcs.datasets import TMDB_BASE, poster_files, poster_stem, poster_urls, read_films

    frame = read_films(options.data).frame
    reads = any(recipe.poster is not None for recipe in options.recipes.values())
    if not options.fetch or not reads or not {"poster_url", "poster_path"} & set(frame.columns):
        return frame.clear()
    there = poster_files(options.posters)
    lacks = []
    urls = poster_urls(frame, options.base_url or TMDB_BASE)
    for (film, url), poster in zip(urls, frame["poster"], strict=True):
        here = bool(poster) and (options.posters / poster).is_file()
        lacks.append(url is not None and not here and poster_stem(film) not in there)
    return frame.filter(pl.Series(lacks, dtype=pl.Boolean))


def _fetch_posters(options: TrainAllOptions) -> None:
    from mmgcs.datasets import (
        FAILED,
        TMDB_BASE,
        PosterOptions,
        download_posters,
        poster_files,
        read_films,
        with_posters,
        write_films,
    )

    how = PosterOptions(base_url=options.base_url or TMDB_BASE, allow_private=options.allow_private)
    lacking = _lacking_posters(options)
    # Failures of an earlier call are retried first: it may have had no network.
    retried = download_posters(lacking, options.posters, replace(how, retry_failed=True))
    result = download_posters(lacking, options.posters, how)
    result.downloaded += retried.downloaded
    result.failed += retried.failed
    options.log(f"{result.downloaded:,} posters downloaded")
    for reason, count in result.reasons().items():
        options.log(f"{count:,} failed: {reason}; see {options.posters / FAILED}")
    if result.failed and not poster_files(options.posters):
        raise MmgcsError(
            f"none of {len(result.failed):,} posters could be downloaded ({next(iter(result.reasons()))}); fix that "
            "and run the same command again, or add --no-fetch to train without them"
        )
    frame = read_films(options.data).frame
    own = [bool(name) and (options.posters / name).is_file() for name in frame["poster"]]
    fetched = with_posters(frame, options.posters)["poster"]
    frame = frame.with_columns(
        pl.when(pl.Series(own, dtype=pl.Boolean)).then(pl.col("poster")).otherwise(fetched).alias("poster")
    )
    write_films(
        frame.select([name for name in frame.columns if frame[name].null_count() < len(frame)]),
        options.out / "films.jsonl",
    )
    made = {"downloaded": result.downloaded, "failed": len(result.failed), "reasons": result.reasons()}
    write_json(options.out / "posters.json", {"made_from": sha256(options.data), **made})


def _evaluate(options: TrainAllOptions, folder: Path) -> None:
    from mmgcs.evaluation import evaluate, write_report
    from mmgcs.runtime import load
    from mmgcs.tables import read_films

    films = [film for chunk in read_films(options.table, posters=options.shown) for film in chunk]
    parts = {name: [film for film in films if film.split == name] for name in ("train", "valid", "test")}
    report = evaluate(
        load(folder / "bundle"),
        parts["test"],
        train=parts["train"],
        valid=parts["valid"],
        data={"data": options.data.name, "data SHA-256": sha256(options.data)},
    )
    write_report(report, folder / "evaluation")
    write_json(folder / "evaluation" / "made.json", {"made_from": sha256(folder / "bundle" / MANIFEST)})


def _verify(folder: Path) -> None:
    from mmgcs.runtime import verify

    checks: list[dict[str, Any]] = [asdict(check) for check in verify(folder / "bundle")]
    write_json(folder / "verify.json", {"made_from": sha256(folder / "bundle" / MANIFEST), "checks": checks})
