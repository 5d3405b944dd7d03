"""Train several recipes and report on them: a plan of steps, each skipped if its result is up to date."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mmgcs.bundle import MANIFEST, Bundle
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import atomic_writer, sha256, write_json
from mmgcs.training.data import read_labelled
from mmgcs.training.recipe import PARTS, Recipe, check_recipe, find_recipe, read_recipe
from mmgcs.training.run import train
from mmgcs.training.rundir import Log, is_made_from
from mmgcs.training.trainer import read_curve
from mmgcs.wording import MAIN_METRICS

_GLOVE = re.compile(r"glove\.6B\.(\d+)d\.txt$")
_FILES = ("data.json", "posters.json", "films.jsonl", "report.json", "report.md", "report.html")
"""The files that the steps write into the folder itself."""
_STYLE = """:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 1000px; padding: 2.5rem 1.25rem; font: 15px/1.55 system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
img { max-width: 100%; background: #fff; border-radius: 8px; }
code { overflow-wrap: anywhere; }"""


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
    run: Callable[[], object]


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
    log: Log = print

    @property
    def table(self) -> Path:
        """Return the table to train on: the given one, or the copy with the downloaded posters."""
        return self.out / "films.jsonl" if _is_current(self.out / "posters.json", self.data) else self.data

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
        UsageError: a recipe is unknown, wrong, or named twice; or a setting is for a recipe that is not trained.
    """
    recipes: dict[str, Recipe] = {}
    for name in names:
        path = find_recipe(name)
        if path.stem in recipes:
            raise UsageError(f"the recipe {path.stem} was given twice; give each once")
        plain, own = read_recipe(path), []
        for setting in settings:
            only, key = _split_setting(setting)
            part = key.partition("=")[0].split(".")[0]
            if only in ("", path.stem) and not (part in PARTS and getattr(plain, part) is None):
                own.append(key)
        recipes[path.stem] = read_recipe(path, own)
        check_recipe(recipes[path.stem])
    for setting in settings:
        if _split_setting(setting)[0] not in ("", *recipes):
            raise UsageError(
                f"--set {setting}: no recipe {_split_setting(setting)[0]} is trained; trained are {', '.join(recipes)}"
            )
    return recipes


def _split_setting(setting: str) -> tuple[str, str]:
    """Return the recipe that a setting is for ("" for all) and KEY=VALUE."""
    key, equals, value = setting.partition("=")
    only, _, key = key.rpartition(":")
    return only, key + equals + value


def make_plan(options: TrainAllOptions) -> list[Step]:
    """Return the steps in order. Nothing is written.

    Raises:
        UsageError: the data cannot be trained on, `out` holds other files, or something is missing that cannot be
            downloaded.
    """
    out, data = options.out, options.data
    first = out / "data.json"
    ours = first.is_file() and '"made_from"' in first.read_text(encoding="utf-8", errors="replace")
    for name in () if ours else _FILES:
        if (out / name).exists():
            raise UsageError(f"{out / name} exists and was not written by mmgcs train-all; give another --out")
    for recipe in options.recipes.values():
        labelled = read_labelled(data, options.shown, recipe.genre_list(), recipe.target_source, recipe.sources())
        if not (labelled.split == "test").any():
            raise UsageError(f"{data} has no films of the split 'test' to measure on; make splits: mmgcs data split")
    what = "look for leaks: films that belong together in different splits"
    steps = [Step("check", what, lambda: _is_current(out / "data.json", data), lambda: _check(options))]
    branches = [branch for recipe in options.recipes.values() for branch in recipe.branches.values()]
    vectors = dict.fromkeys(branch.encoder.options.get("glove") for branch in branches)
    steps += [_glove_step(options, Path(name)) for name in vectors if name]
    made, missing = out / "posters.json", len(_missing_posters(options))
    if missing or made.is_file():
        what = f"download {missing:,} missing posters into {options.posters}"
        steps.append(Step("posters", what, lambda: _is_current(made, data), lambda: _fetch_posters(options)))
    for name in options.recipes:
        steps += _recipe_steps(options, name)
    what = f"write {out}/report.html, .md and .json, with curves"
    names = list(options.recipes)
    return [*steps, Step("report", what, lambda: _is_reported(out, names), lambda: write_summary(out, names))]


def run_plan(steps: list[Step], log: Log) -> list[str]:
    """Run the steps that are not done. Return their names."""
    worked = []
    for number, step in enumerate(steps, 1):
        done = step.done()
        log(f"[{number}/{len(steps)}] {step.name}: {'already done' if done else step.what}")
        if not done:
            step.run()
            worked.append(step.name)
    return worked


def _is_current(result: Path, source: Path) -> bool:
    """Return True if a step's result is there and was made from the present file `source`."""
    try:
        return bool(json.loads(result.read_text(encoding="utf-8"))["made_from"] == sha256(source))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _recipe_steps(options: TrainAllOptions, name: str) -> list[Step]:
    folder, recipe = options.out / name, options.recipes[name]
    manifest = folder / "bundle" / MANIFEST
    command = ["mmgcs", "train-all", "--data", options.data.name, "--out", options.out.name, "--recipes", name]
    for setting in options.settings:
        command += ["--set", setting]

    def learn() -> None:
        train(
            recipe,
            options.table,
            folder,
            posters=options.shown,
            resume=True,
            command=shlex.join(command),
            log=options.log,
            devices=options.devices,
            progress=options.progress,
        )

    def learned() -> bool:
        # For a bundle of another recipe or other data, training raises its own error.
        return manifest.is_file() and is_made_from(folder / "run.json", recipe, sha256(options.table))

    def current(file: Path) -> bool:
        return learned() and _is_current(file, manifest)

    evaluation, checks = folder / "evaluation" / "made.json", folder / "verify.json"
    return [
        Step(f"train {name}", f"train and export to {folder / 'bundle'}", learned, learn),
        Step(
            f"evaluate {name}", "measure it on test", partial(current, evaluation), lambda: _evaluate(options, folder)
        ),
        Step(
            f"verify {name}",
            "check checksums, predictions and card",
            partial(current, checks),
            partial(_verify, folder),
        ),
    ]


def _check(options: TrainAllOptions) -> None:
    from mmgcs.datasets import find_leaks, read_films

    frame = read_films(options.data).frame
    leaks = len(find_leaks(frame))
    if leaks:
        options.log(f"{leaks:,} pairs of films belong together but are in different splits: scores will be too high;")
        options.log("mmgcs data split makes splits without leaks")
    counts = {name: int((frame["split"] == name).sum()) for name in ("train", "valid", "test")}
    found = {"made_from": sha256(options.data), "data": options.data.name, "splits": counts, "leaks": leaks}
    write_json(options.out / "data.json", found)


def _glove_step(options: TrainAllOptions, path: Path) -> Step:
    from mmgcs.datasets import get_glove

    match, there, given = _GLOVE.search(path.name), path.is_file(), options.glove
    if not there and (match is None or not (options.fetch or given)):
        fix = "get it with mmgcs data glove, or give --glove FILE" if match else "give a file that exists"
        raise UsageError(f"there are no word vectors at {path}; {fix}")
    if not there and given is not None and not given.is_file():
        raise UsageError(f"--glove {given} is not a file; give glove.6B.zip, or a .txt or .txt.gz of vectors")
    width = int(match[1]) if match else 0
    where = f"take the word vectors from {given}" if given else "download the word vectors (862 MB)"
    return Step("glove", f"{where} into {path}", path.is_file, lambda: get_glove(path.parent, width, source=given))


def _missing_posters(options: TrainAllOptions) -> pl.DataFrame:
    """Return the films without a poster file but with an address; none if nothing may be downloaded."""
    from mmgcs.datasets import TMDB_BASE, poster_files, poster_stem, poster_urls, read_films

    frame = read_films(options.data).frame
    reads = any(recipe.poster is not None for recipe in options.recipes.values())
    if not options.fetch or not reads or not {"poster_url", "poster_path"} & set(frame.columns):
        return frame.clear()
    there = poster_files(options.posters)
    urls = poster_urls(frame, options.base_url or TMDB_BASE)
    missing = [
        url is not None and not own and poster_stem(film) not in there
        for (film, url), own in zip(urls, _own_posters(frame, options.posters), strict=True)
    ]
    return frame.filter(pl.Series(missing, dtype=pl.Boolean))


def _own_posters(frame: pl.DataFrame, folder: Path) -> pl.Series:
    """Return for each film whether the poster that the table names is there."""
    return pl.Series([bool(name) and (folder / name).is_file() for name in frame["poster"]], dtype=pl.Boolean)


def _fetch_posters(options: TrainAllOptions) -> None:
    from mmgcs import datasets

    how = datasets.PosterOptions(base_url=options.base_url or datasets.TMDB_BASE, allow_private=options.allow_private)
    failed = options.posters / datasets.FAILED
    failed.unlink(missing_ok=True)  # what failed in an earlier call is tried again: it may have had no network
    result = datasets.download_posters(_missing_posters(options), options.posters, how)
    options.log(f"{result.downloaded:,} posters downloaded")
    for reason, count in result.reasons().items():
        options.log(f"{count:,} failed: {reason}; see {failed}")
    if result.failed and not datasets.poster_files(options.posters):
        raise MmgcsError(
            f"none of {len(result.failed):,} posters could be downloaded ({next(iter(result.reasons()))}); fix that "
            "and run the same command again, or add --no-fetch to train without them"
        )
    frame = datasets.read_films(options.data).frame
    fetched = datasets.with_posters(frame, options.posters)["poster"]
    own = _own_posters(frame, options.posters)
    frame = frame.with_columns(pl.when(own).then(pl.col("poster")).otherwise(fetched).alias("poster"))
    filled = [name for name in frame.columns if frame[name].null_count() < len(frame)]
    datasets.write_films(frame.select(filled), options.out / "films.jsonl")
    made = {"downloaded": result.downloaded, "failed": len(result.failed), "reasons": result.reasons()}
    write_json(options.out / "posters.json", {"made_from": sha256(options.data), **made})


def _evaluate(options: TrainAllOptions, folder: Path) -> None:
    from mmgcs.evaluation import evaluate, write_report
    from mmgcs.runtime import load
    from mmgcs.tables import read_films

    films = [film for chunk in read_films(options.table, posters=options.shown) for film in chunk]
    train, valid, test = ([film for film in films if film.split == name] for name in ("train", "valid", "test"))
    source = {"data": options.data.name, "data SHA-256": sha256(options.data)}
    report = evaluate(load(folder / "bundle"), test, train=train, valid=valid, data=source)
    write_report(report, folder / "evaluation")
    write_json(folder / "evaluation" / "made.json", {"made_from": sha256(folder / "bundle" / MANIFEST)})


def _verify(folder: Path) -> None:
    from mmgcs.runtime import verify

    checks: list[dict[str, Any]] = [asdict(check) for check in verify(folder / "bundle")]
    write_json(folder / "verify.json", {"made_from": sha256(folder / "bundle" / MANIFEST), "checks": checks})


def _is_reported(out: Path, names: list[str]) -> bool:
    """Return True if the report in `out` is about the bundles that are there now."""
    try:
        models = json.loads((out / "report.json").read_text(encoding="utf-8"))["models"]
        made = {model["recipe"]: model["manifest_sha256"] for model in models}
        written = (out / "report.html").is_file() and (out / "report.md").is_file()
        return written and made == {name: sha256(out / name / "bundle" / MANIFEST) for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_summary(out: Path, names: list[str]) -> None:
    """Write report.json, report.md and report.html into `out` from what the steps left there."""
    from markdown_it import MarkdownIt

    data = json.loads((out / "data.json").read_text(encoding="utf-8"))
    report = {"data": data, "models": [_model(out, name) for name in names]}
    with atomic_writer(out / "report.md") as handle:
        handle.write(_markdown(report, lambda picture: picture))
    page = (
        MarkdownIt()
        .enable("table")
        .render(
            _markdown(
                report, lambda name: "data:image/png;base64," + base64.b64encode((out / name).read_bytes()).decode()
            )
        )
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    with atomic_writer(out / "report.html") as handle:
        handle.write(
            f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Trained models</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f"<style>\n{_STYLE}\n</style>\n{page}</html>\n"
        )
    write_json(out / "report.json", report)  # last: a report without it is incomplete


def _model(out: Path, name: str) -> dict[str, Any]:
    folder = out / name
    evaluation = json.loads((folder / "evaluation" / "report.json").read_text(encoding="utf-8"))
    checks = json.loads((folder / "verify.json").read_text(encoding="utf-8"))["checks"]
    scores = []
    for condition in evaluation["conditions"]:
        tuned = condition["tuned"]
        found = {metric: tuned[metric] for metric in MAIN_METRICS}
        scores.append({"films": condition["name"], "count": tuned["films"], **found})
    curves, pictures = {}, []
    for stage in ("plot", "poster", "fusion"):
        if (folder / stage / "curves").is_dir():
            curves[stage] = {column: read_curve(folder / stage, column) for column in ("train_loss", "valid_map")}
        if (folder / stage / "curves.png").is_file():
            pictures.append(f"{name}/{stage}/curves.png")
    return {
        "recipe": name,
        "bundle": f"{name}/bundle",
        "manifest_sha256": sha256(folder / "bundle" / MANIFEST),
        "bytes": sum(int(entry["bytes"]) for entry in Bundle(folder / "bundle").files.values()),
        "evaluation": f"{name}/evaluation/report.html",
        "scores": scores,
        "checks": checks,
        "verified": all(check["passed"] for check in checks),
        "curves": curves,
        "pictures": pictures,
    }


def _markdown(report: Mapping[str, Any], address: Callable[[str], str]) -> str:
    """Return the report as Markdown; `address` turns a picture's file name into its address."""
    data = report["data"]
    splits = ", ".join(f"{count:,} {name}" for name, count in data["splits"].items())
    lines = ["# Trained models", "", f"From {data['data']} (SHA-256 `{data['made_from']}`): {splits} films.", ""]
    if data["leaks"]:
        lines += [
            f"**{data['leaks']:,} pairs of films belong together but are in different splits**, so the scores are too "
            "high; `mmgcs data split` fixes that.",
            "",
        ]
    lines += [f"| model | MB | films of test | number | {' | '.join(MAIN_METRICS.values())} |", "|---" * 7 + "|"]
    for model in report["models"]:
        start = f"{model['recipe']} | {model['bytes'] / 1e6:.1f}"
        for row in model["scores"]:
            values = [row[metric]["value"] for metric in MAIN_METRICS]
            shown = " | ".join("–" if value is None else f"{value:.3f}" for value in values)
            lines.append(f"| {start} | {row['films']} | {row['count']:,} | {shown} |")
            start = " | "
    for model in report["models"]:
        place = (
            f"The bundle is in `{model['bundle']}`, its evaluation in [{model['evaluation']}]({model['evaluation']})."
        )
        lines += ["", f"## {model['recipe']}", "", place, ""]
        lines += [
            f"- {'ok' if check['passed'] else '**wrong**'}: {check['name']}, {check['detail']}"
            for check in model["checks"]
        ]
        for picture in model["pictures"]:
            lines += ["", f"![Loss and score over the steps of training]({address(picture)})"]
    return "\n".join(lines) + "\n"
