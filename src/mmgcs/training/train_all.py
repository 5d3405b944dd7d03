"""Everything from labelled films to measured and verified bundles: a plan of steps, each skipped where it is done."""

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
from mmgcs.training.check import check_recipe
from mmgcs.training.data import read_labelled
from mmgcs.training.job import Log
from mmgcs.training.recipe import PARTS, Recipe, find_recipe, read_recipe
from mmgcs.training.run import train

_GLOVE = re.compile(r"glove\.6B\.(\d+)d\.txt$")
_FILES = ("data.json", "posters.json", "films.jsonl", "report.json", "report.md", "report.html")
"""What the steps write into the folder itself."""


@dataclass(frozen=True)
class Step:
    """One step of the plan.

    Attributes:
        name: its name.
        what: what it does, for people.
        done: whether its result is there and of the data and models that it would be made from now.
        run: does it.
    """

    name: str
    what: str
    done: Callable[[], bool]
    run: Callable[[], None]


@dataclass(frozen=True)
class Order:
    """What `mmgcs train-all` was asked for.

    Attributes:
        data: the table of films with genres and splits.
        posters: the folder its posters lie in, and where missing ones are put.
        out: where everything goes: a folder for each recipe, and the report.
        recipes: each recipe by its name.
        settings: what was set over the recipes, for the model cards.
        glove: word vectors (or the archive of them) that lie here already; None to fetch them.
        fetch: whether what is missing may be fetched.
        base_url: what stands before a `poster_path`; None for TMDB's.
        allow_private: also fetch from private addresses.
        devices, progress: as in `train`.
        log: called with one line a step.
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
        """The table to train on: the one given, or the copy that names the posters that were fetched."""
        fetched = self.out / "films.jsonl"
        return fetched if _made_from(self.out / "posters.json", sha256(self.data)) else self.data

    @property
    def shown(self) -> Path | None:
        """The folder of posters to read from; None while there is none."""
        return self.posters if self.posters.is_dir() else None


def read_recipes(names: list[str], settings: list[str]) -> dict[str, Recipe]:
    """Read and check the recipes, each with the settings that it has a place for.

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


def make_plan(order: Order) -> list[Step]:
    """The steps, in their order. Nothing is written.

    Raises:
        UsageError: the data cannot be trained on, `out` holds somebody else's files, or something is missing that
            cannot be fetched.
    """
    _check_free(order.out)
    for recipe in order.recipes.values():
        labelled = read_labelled(order.data, order.shown, recipe.genre_list(), recipe.target_source, recipe.sources())
        if not (labelled.split == "test").any():
            raise UsageError(
                f"{order.data} has no films of the split 'test' to measure on; make splits: mmgcs data split"
            )
    steps = [
        Step(
            "check",
            "look for films that belong together but stand in different splits",
            lambda: _made_from(order.out / "data.json", sha256(order.data)),
            lambda: _check(order),
        )
    ]
    steps += [_glove_step(order, path) for path in _vectors(order)]
    lacking = len(_lacking_posters(order))
    made = order.out / "posters.json"
    if lacking or made.is_file():
        what = f"fetch {lacking:,} missing posters into {order.posters}"
        steps.append(Step("posters", what, lambda: _made_from(made, sha256(order.data)), lambda: _fetch_posters(order)))
    for name in order.recipes:
        steps += _recipe_steps(order, name)
    from mmgcs.training.train_all_report import report_is_current, write_summary

    return [
        *steps,
        Step(
            "report",
            f"write {order.out}/report.html, .md and .json, with curves",
            lambda: report_is_current(order.out, list(order.recipes)),
            lambda: write_summary(order.out, list(order.recipes)),
        ),
    ]


def _check_free(out: Path) -> None:
    """Refuse a folder with files that steps would replace, unless the first step's file says that they are ours."""
    try:
        ours = "made_from" in json.loads((out / "data.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        ours = False
    for name in () if ours else _FILES:
        if (out / name).exists():
            raise UsageError(f"{out / name} exists and is not of mmgcs train-all; give another --out")


def carry_out(steps: list[Step], log: Log) -> list[str]:
    """Do the steps that are not done. Returns the names of those that were."""
    worked = []
    for number, step in enumerate(steps, 1):
        if step.done():
            log(f"[{number}/{len(steps)}] {step.name}: done already")
            continue
        log(f"[{number}/{len(steps)}] {step.name}: {step.what}")
        step.run()
        worked.append(step.name)
    return worked


def _recipe_steps(order: Order, name: str) -> list[Step]:
    folder = order.out / name
    bundle = folder / "bundle"

    def learn() -> None:
        command = ["mmgcs", "train-all", "--data", order.data.name, "--out", order.out.name, "--recipes", name]
        for setting in order.settings:
            command += ["--set", setting]
        train(
            order.recipes[name],
            order.table,
            order.shown,
            folder,
            resume=True,
            command=shlex.join(command),
            log=order.log,
            devices=order.devices,
            progress=order.progress,
        )

    def learned() -> bool:
        # A bundle of another recipe or other data is not this one; training then says so in its own words.
        if not (bundle / MANIFEST).is_file():
            return False
        state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        same = state["recipe"] == order.recipes[name].model_dump(mode="json")
        return bool(same and state["data"] == sha256(order.table))

    def current(file: Path) -> Callable[[], bool]:
        return lambda: learned() and _made_from(file, sha256(bundle / MANIFEST))

    return [
        Step(f"train {name}", f"train and export to {bundle}", learned, learn),
        Step(
            f"evaluate {name}",
            "measure it on the split test",
            current(folder / "evaluation" / "made.json"),
            lambda: _evaluate(order, folder),
        ),
        Step(
            f"verify {name}",
            "check sums, predictions and card",
            current(folder / "verify.json"),
            lambda: _verify(folder),
        ),
    ]


def _made_from(path: Path, fingerprint: str) -> bool:
    """Whether a step's result is there and was made from the file with this SHA-256."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["made_from"] == fingerprint)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check(order: Order) -> None:
    from mmgcs.datasets import find_leaks, read_films

    frame = read_films(order.data).frame
    leaks = find_leaks(frame)
    if leaks:
        order.log(f"{len(leaks):,} pairs of films belong together but stand in different splits: scores flatter;")
        order.log("mmgcs data split makes splits without such pairs")
    counts = {name: int((frame["split"] == name).sum()) for name in ("train", "valid", "test")}
    write_json(
        order.out / "data.json",
        {"made_from": sha256(order.data), "data": order.data.name, "splits": counts, "leaks": len(leaks)},
    )


def _vectors(order: Order) -> list[Path]:
    """The files of word vectors that recipes name, each once."""
    named = [
        branch.encoder.options["glove"]
        for recipe in order.recipes.values()
        for branch in recipe.branches.values()
        if branch.encoder.options.get("glove")
    ]
    return [Path(name) for name in dict.fromkeys(named)]


def _glove_step(order: Order, path: Path) -> Step:
    match = _GLOVE.search(path.name)
    if not path.is_file() and (match is None or not (order.fetch or order.glove)):
        mend = "get it with mmgcs data glove, or give --glove FILE" if match else "give a file that exists"
        raise UsageError(f"there are no word vectors at {path}; {mend}")
    if not path.is_file() and order.glove is not None and not order.glove.is_file():
        raise UsageError(f"--glove {order.glove} is not a file; give glove.6B.zip, or a .txt or .txt.gz of vectors")

    def get() -> None:
        from mmgcs.datasets import get_glove

        assert match is not None
        get_glove(path.parent, int(match[1]), source=order.glove)

    where = f"take the word vectors from {order.glove}" if order.glove else "fetch the word vectors (862 MB)"
    return Step("glove", f"{where} into {path}", path.is_file, get)


def _lacking_posters(order: Order) -> pl.DataFrame:
    """The films without a poster file that give an address to fetch one from; none where nothing may be fetched."""
    from mmgcs.datasets import TMDB_BASE, poster_files, poster_stem, poster_urls, read_films

    frame = read_films(order.data).frame
    reads = any(recipe.poster is not None for recipe in order.recipes.values())
    if not order.fetch or not reads or not {"poster_url", "poster_path"} & set(frame.columns):
        return frame.clear()
    there = poster_files(order.posters)
    lacks = []
    urls = poster_urls(frame, order.base_url or TMDB_BASE)
    for (film, url), poster in zip(urls, frame["poster"], strict=True):
        here = bool(poster) and (order.posters / poster).is_file()
        lacks.append(url is not None and not here and poster_stem(film) not in there)
    return frame.filter(pl.Series(lacks, dtype=pl.Boolean))


def _fetch_posters(order: Order) -> None:
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

    options = PosterOptions(base_url=order.base_url or TMDB_BASE, allow_private=order.allow_private)
    lacking = _lacking_posters(order)
    # What failed in an earlier call is tried again first: that may have had no network.
    retried = download_posters(lacking, order.posters, replace(options, retry_failed=True))
    result = download_posters(lacking, order.posters, options)
    result.downloaded += retried.downloaded
    result.failed += retried.failed
    order.log(f"{result.downloaded:,} posters fetched")
    for reason, count in result.reasons().items():
        order.log(f"{count:,} failed: {reason}; see {order.posters / FAILED}")
    if result.failed and not poster_files(order.posters):
        raise MmgcsError(
            f"none of {len(result.failed):,} posters could be fetched ({next(iter(result.reasons()))}); mend that and "
            "give the same command again, or add --no-fetch to train without them"
        )
    frame = read_films(order.data).frame
    own = [bool(name) and (order.posters / name).is_file() for name in frame["poster"]]
    fetched = with_posters(frame, order.posters)["poster"]
    frame = frame.with_columns(
        pl.when(pl.Series(own, dtype=pl.Boolean)).then(pl.col("poster")).otherwise(fetched).alias("poster")
    )
    write_films(
        frame.select([name for name in frame.columns if frame[name].null_count() < len(frame)]),
        order.out / "films.jsonl",
    )
    made = {"downloaded": result.downloaded, "failed": len(result.failed), "reasons": result.reasons()}
    write_json(order.out / "posters.json", {"made_from": sha256(order.data), **made})


def _evaluate(order: Order, folder: Path) -> None:
    from mmgcs.evaluation import evaluate, write_report
    from mmgcs.runtime import load
    from mmgcs.tables import read_films

    films = [film for chunk in read_films(order.table, posters=order.shown) for film in chunk]
    parts = {name: [film for film in films if film.split == name] for name in ("train", "valid", "test")}
    report = evaluate(
        load(folder / "bundle"),
        parts["test"],
        train=parts["train"],
        valid=parts["valid"],
        data={"data": order.data.name, "data SHA-256": sha256(order.data)},
    )
    write_report(report, folder / "evaluation")
    write_json(folder / "evaluation" / "made.json", {"made_from": sha256(folder / "bundle" / MANIFEST)})


def _verify(folder: Path) -> None:
    from mmgcs.runtime import verify

    checks: list[dict[str, Any]] = [asdict(check) for check in verify(folder / "bundle")]
    write_json(folder / "verify.json", {"made_from": sha256(folder / "bundle" / MANIFEST), "checks": checks})
