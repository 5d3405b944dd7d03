"""Train several recipes and report on them, in steps that are skipped if their results are up to date."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from mmgcs import datasets
from mmgcs.bundle import MANIFEST, Bundle
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.evaluation import evaluate, write_report
from mmgcs.files import atomic_writer, sha256, write_json
from mmgcs.runtime import load, verify
from mmgcs.tables import FilmTable, read_films
from mmgcs.templates import fill_template
from mmgcs.training.labelled import read_labelled
from mmgcs.training.recipe import Recipe, find_recipe, read_recipe
from mmgcs.training.run import RESOURCES, train
from mmgcs.training.rundir import Log, is_made_from
from mmgcs.training.trainer import read_curve
from mmgcs.wording import MAIN_METRICS

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Step:
    """One step of the plan."""

    name: str
    what: str  # what it does, in words
    done: Callable[[], bool]  # returns True if its result exists and is up to date
    run: Callable[[], object]


@dataclass(frozen=True)
class TrainAllOptions:
    """The options of `mmgcs train-all`."""

    data: Path  # the table of films with genres and splits
    posters: Path  # the folder its posters lie in; missing ones are downloaded into it
    out: Path  # the folder of the results: one folder per recipe, and the report
    recipes: dict[str, Recipe]  # each recipe by its name
    settings: tuple[str, ...] = ()  # the changed settings, for the model cards
    glove: Path | None = None  # a local file (or archive) of word vectors; None to download them
    fetch: bool = True  # False to download nothing
    base_url: str | None = None  # the address before a `poster_path`; None for TMDB's
    allow_private: bool = False  # also download from private addresses
    columns: Mapping[str, str] = field(default_factory=dict)  # film field to the column of `data` to read it from
    devices: int = 1  # as in `train`
    progress: bool = True  # as in `train`
    log: Log = print  # called with one line per step

    @cached_property
    def fingerprint(self) -> str:
        """Return the fingerprint of `data`."""
        return FilmTable(self.data, columns=self.columns).fingerprint()

    @property
    def table(self) -> tuple[Path, Mapping[str, str]]:
        """Return the table to train on and its `columns`: the given one, or the copy with the downloaded posters."""
        if _is_current(self.out / "posters.json", self.fingerprint):
            return self.out / "films.jsonl", {}
        return self.data, self.columns

    def frame(self) -> pl.DataFrame:
        """Return the films of `data`."""
        return datasets.read_raw_films(self.data, self.columns).frame

    @property
    def poster_folder(self) -> Path | None:
        """Return the folder of posters, or None if it does not exist yet."""
        return self.posters if self.posters.is_dir() else None


def read_recipes(names: list[str], settings: list[str]) -> dict[str, Recipe]:
    """Read the recipes, each with the settings that apply to it.

    Args:
        names: names or paths.
        settings: KEY=VALUE for every recipe that has the part, or RECIPE:KEY=VALUE for one.

    Raises:
        UsageError: a recipe is unknown, wrong, or named twice; or a setting is for a recipe that is not trained.
    """
    recipes: dict[str, Recipe] = {}
    # For each setting, the recipe that it is for ("" for all) and KEY=VALUE.
    split = [(setting.partition("=")[0].rpartition(":")[0], setting) for setting in settings]
    for name in names:
        path = find_recipe(name)
        if path.stem in recipes:
            raise UsageError(f"the recipe {path.stem} was given twice; give each once")
        plain, own = read_recipe(path), []
        for only, setting in split:
            key = setting.removeprefix(f"{only}:")
            part = key.partition("=")[0].split(".")[0]
            has_part = part not in ("plot", "poster", "fusion", "head") or getattr(plain, part) is not None
            if only in ("", path.stem) and has_part:
                own.append(key)
        recipes[path.stem] = read_recipe(path, own)
    for only, setting in split:
        if only not in ("", *recipes):
            raise UsageError(f"--set {setting}: no recipe {only} is trained; trained are {', '.join(recipes)}")
    return recipes


def make_plan(options: TrainAllOptions) -> list[Step]:
    """Return the steps in order. Nothing is written.

    Raises:
        UsageError: the data cannot be trained on, `out` holds other files, or something is missing that cannot be
            downloaded.
    """
    out, data = options.out, options.data
    first = out / "data.json"
    ours = first.is_file() and '"made_from"' in first.read_text(encoding="utf-8", errors="replace")
    for name in ("data.json", "posters.json", "films.jsonl", "report.json", "report.md", "report.html"):
        if not ours and (out / name).exists():
            raise UsageError(f"{out / name} exists and was not written by mmgcs train-all; give another --out")
    for recipe in options.recipes.values():
        labelled = read_labelled(
            data, options.poster_folder, recipe.genre_list(), recipe.target_source, recipe.sources(), options.columns
        )
        if not (labelled.split == "test").any():
            raise UsageError(f"{data} has no films of the split 'test' to measure on; make splits: mmgcs data split")
    what = "look for leaks: films that belong together in different splits"
    steps = [Step("check", what, partial(_is_current, first, options.fingerprint), partial(_check, options))]
    branches = [branch for recipe in options.recipes.values() for branch in recipe.branches.values()]
    vectors = dict.fromkeys(branch.encoder.options.get("glove") for branch in branches)
    steps += [_glove_step(options, Path(name)) for name in vectors if name]
    made, missing = out / "posters.json", len(_missing_posters(options))
    if missing or made.is_file():
        what = f"download {missing:,} missing posters into {options.posters}"
        there = partial(_is_current, made, options.fingerprint)
        steps.append(Step("posters", what, there, partial(_fetch_posters, options)))
    for name in options.recipes:
        steps += _recipe_steps(options, name)
    names = list(options.recipes)

    def reported() -> bool:
        pages = (out / "report.html", out / "report.md")
        return all(page.is_file() for page in pages) and _is_current(out / "report.json", _manifests(out, names))

    what = f"write {out}/report.html, .md and .json, with curves"
    return [*steps, Step("report", what, reported, partial(write_summary, out, names))]


def run_plan(steps: list[Step], log: Log) -> list[str]:
    """Run the steps that are not done and return their names."""
    ran = []
    for number, step in enumerate(steps, 1):
        done = step.done()
        log(f"[{number}/{len(steps)}] {step.name}: {'already done' if done else step.what}")
        if not done:
            step.run()
            ran.append(step.name)
    return ran


def _manifests(out: Path, names: list[str]) -> str:
    """Return the checksums of some recipes' bundles as one text; "" if a bundle is missing."""
    files = [out / name / "bundle" / MANIFEST for name in names]
    return " ".join(map(sha256, files)) if all(file.is_file() for file in files) else ""


def _is_current(result: Path, made_from: str) -> bool:
    """Return True if a step's result exists and was made from `made_from`."""
    try:
        return bool(json.loads(result.read_text(encoding="utf-8"))["made_from"] == made_from)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _recipe_steps(options: TrainAllOptions, name: str) -> list[Step]:
    """Return the steps that train, evaluate and verify one recipe."""
    folder, recipe = options.out / name, options.recipes[name]
    bundle, manifest = folder / "bundle", folder / "bundle" / MANIFEST
    command = ["mmgcs", "train-all", "--data", options.data.name, "--out", options.out.name, "--recipes", name]
    if options.posters != options.out / "posters":
        command += ["--posters", options.posters.name or "."]
    command += [] if options.fetch else ["--no-fetch"]
    command += [word for name, column in options.columns.items() for word in ("--columns", f"{name}={column}")]
    command += [word for setting in options.settings for word in ("--set", setting)]

    def learn() -> None:
        table, columns = options.table
        train(
            recipe,
            table,
            folder,
            posters=options.poster_folder,
            columns=columns,
            resume=True,
            command=shlex.join(command),
            log=options.log,
            devices=options.devices,
            progress=options.progress,
        )

    def learned() -> bool:
        # For a bundle of another recipe or other data, training raises its own error.
        table, columns = options.table
        made_from = FilmTable(table, columns=columns).fingerprint()
        return manifest.is_file() and is_made_from(folder / "run.json", recipe, made_from)

    def current(file: Path) -> bool:
        return learned() and _is_current(file, _manifests(options.out, [name]))

    def score() -> None:
        table, columns = options.table
        films = [film for chunk in read_films(table, posters=options.poster_folder, columns=columns) for film in chunk]
        train, valid, test = ([film for film in films if film.split == each] for each in ("train", "valid", "test"))
        source = {"data": options.data.name, "data SHA-256": options.fingerprint}
        report = evaluate(load(bundle), test, train=train, valid=valid, sources=recipe.sources(), data=source)
        write_report(report, folder / "evaluation")
        write_json(evaluation, {"made_from": sha256(manifest)})

    def check() -> None:
        write_json(checks, {"made_from": sha256(manifest), "checks": [asdict(found) for found in verify(bundle)]})

    evaluation, checks = folder / "evaluation" / "made.json", folder / "verify.json"
    return [
        Step(f"train {name}", f"train and export to {bundle}", learned, learn),
        Step(f"evaluate {name}", "measure it on test", partial(current, evaluation), score),
        Step(f"verify {name}", "check checksums, predictions and card", partial(current, checks), check),
    ]


def _check(options: TrainAllOptions) -> None:
    frame = options.frame()
    leaks = len(datasets.find_leaks(frame))
    if leaks:
        options.log(f"{leaks:,} pairs of films belong together but are in different splits: scores will be too high;")
        options.log("mmgcs data split makes splits without leaks")
    counts = {name: int((frame["split"] == name).sum()) for name in ("train", "valid", "test")}
    found = {"made_from": options.fingerprint, "data": options.data.name, "splits": counts, "leaks": leaks}
    write_json(options.out / "data.json", found)


def _glove_step(options: TrainAllOptions, path: Path) -> Step:
    match, there, given = re.search(r"glove\.6B\.(\d+)d\.txt$", path.name), path.is_file(), options.glove
    if not there and (match is None or not (options.fetch or given)):
        fix = "get it with mmgcs data glove, or give --glove FILE" if match else "give a file that exists"
        raise UsageError(f"there are no word vectors at {path}; {fix}")
    if not there and given is not None and not given.is_file():
        raise UsageError(f"--glove {given} is not a file; give glove.6B.zip, or a .txt or .txt.gz of vectors")
    width = int(match[1]) if match else 0
    where = f"take the word vectors from {given}" if given else "download the word vectors (862 MB)"
    get = partial(datasets.get_glove, path.parent, width, source=given)
    return Step("glove", f"{where} into {path}", path.is_file, get)


def _missing_posters(options: TrainAllOptions) -> pl.DataFrame:
    """Return the films whose poster can be downloaded but is not there; none if downloads are not wanted."""
    frame = options.frame()
    reads = any(recipe.poster is not None for recipe in options.recipes.values())
    if not options.fetch or not reads or not {"poster_url", "poster_path"} & set(frame.columns):
        return frame.clear()
    there = datasets.poster_files(options.posters)
    urls = datasets.poster_urls(frame, options.base_url or datasets.TMDB_BASE)
    missing = [
        url is not None and not (own and (options.posters / own).is_file()) and datasets.poster_stem(film) not in there
        for (film, url), own in zip(urls, frame["poster"], strict=True)
    ]
    return frame.filter(pl.Series(missing, dtype=pl.Boolean))


def _fetch_posters(options: TrainAllOptions) -> None:
    """Download missing posters, and write a copy of the table with their file names."""
    how = datasets.PosterOptions(base_url=options.base_url or datasets.TMDB_BASE, allow_private=options.allow_private)
    failed = options.posters / datasets.FAILED
    failed.unlink(missing_ok=True)  # retry what failed in an earlier call, which may have had no network
    result = datasets.download_posters(_missing_posters(options), options.posters, how)
    options.log(f"{result.downloaded:,} posters downloaded")
    for reason, count in result.reasons().items():
        options.log(f"{count:,} failed: {reason}; see {failed}")
    if result.failed and not datasets.poster_files(options.posters):
        raise MmgcsError(
            f"none of {len(result.failed):,} posters could be downloaded ({next(iter(result.reasons()))}); fix that "
            "and run the same command again, or add --no-fetch to train without them"
        )
    frame = datasets.with_posters(options.frame(), options.posters)
    filled = [name for name in frame.columns if frame[name].null_count() < len(frame)]
    datasets.write_films(frame.select(filled), options.out / "films.jsonl")
    made = {"downloaded": result.downloaded, "failed": len(result.failed), "reasons": result.reasons()}
    write_json(options.out / "posters.json", {"made_from": options.fingerprint, **made})


def write_summary(out: Path, names: list[str]) -> None:
    """Write report.json, report.md and report.html into `out` from the results of the steps."""
    from markdown_it import MarkdownIt

    data = json.loads((out / "data.json").read_text(encoding="utf-8"))
    models = [_model(out, name) for name in names]
    report: dict[str, Any] = {"made_from": _manifests(out, names), "data": data, "models": models}

    def embedded(name: str) -> str:
        return "data:image/png;base64," + base64.b64encode((out / name).read_bytes()).decode()

    def markdown(address: Callable[[str], str]) -> str:
        return fill_template(_TEMPLATES / "report.md.j2", {"address": address}, metrics=MAIN_METRICS, **report)

    page = MarkdownIt("js-default").render(markdown(embedded))
    with atomic_writer(out / "report.md") as handle:
        handle.write(markdown(str))
    with atomic_writer(out / "report.html") as handle:
        handle.write(fill_template(_TEMPLATES / "report.html.j2", body=page))
    write_json(out / "report.json", report)  # last: a report without it is incomplete


def _model(out: Path, name: str) -> dict[str, Any]:
    """Return what the report says about one recipe."""
    folder = out / name
    files = ("evaluation/report.json", "verify.json", RESOURCES)
    evaluation, checks, resources = (json.loads((folder / file).read_text(encoding="utf-8")) for file in files)
    scores = [
        {"films": name, "count": tuned["films"], **{metric: tuned[metric] for metric in MAIN_METRICS}}
        for name, tuned in ((condition["name"], condition["tuned"]) for condition in evaluation["conditions"])
    ]
    stages = [stage for stage in ("plot", "poster", "fusion") if (folder / stage / "curves.png").is_file()]
    columns = ("train_loss", "valid_map")
    return {
        "recipe": name,
        "bundle": f"{name}/bundle",
        "manifest_sha256": sha256(folder / "bundle" / MANIFEST),
        "bytes": sum(int(entry["bytes"]) for entry in Bundle(folder / "bundle").files.values()),
        "evaluation": f"{name}/evaluation/report.html",
        "scores": scores,
        "checks": checks["checks"],
        "verified": all(check["passed"] for check in checks["checks"]),
        "curves": {stage: {column: read_curve(folder / stage, column) for column in columns} for stage in stages},
        "pictures": [f"{name}/{stage}/curves.png" for stage in stages],
        **resources,
    }
