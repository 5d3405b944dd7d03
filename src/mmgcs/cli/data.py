"""`mmgcs data`: prepare, inspect and split labelled films; fetch posters and word vectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from mmgcs.cli.options import (
    AllowPrivate,
    AsJson,
    BaseUrl,
    Columns,
    Overwrite,
    data_path,
    download,
    parse_columns,
    split_list,
)
from mmgcs.cli.output import examples, explain_interrupt, new_app, print_json, print_result, say
from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.files import check_free
from mmgcs.progress import progress_bars

if TYPE_CHECKING:
    import polars as pl

app = new_app(
    "Prepare, inspect and split labelled films; fetch posters and word vectors.",
    examples(
        "mmgcs data prepare movies_metadata.csv --out films.parquet --split 80/10/10",
        "mmgcs data split films.csv --out split.csv",
        "mmgcs data posters films.csv --out posters/",
    ),
)

FILMS_HELP = "A table of films, in any format that mmgcs tag reads, or hf:owner/name."
Films = Annotated[Path, Argument(metavar="FILMS", help=FILMS_HELP, parser=data_path)]
Format = Annotated[str, Option("--from", help="The format: auto, tmdb, movielens, mmimdb, original or films.")]
TABLE_HELP = "The table to write: .csv, .tsv, .jsonl or .parquet."
Seed = Annotated[int, Option(help="The seed of every random choice.")]

GENRES_HELP = (
    "Genres to keep: A,B,C, or a set: default (TMDB's eighteen), ten, tmdb, imdb, mmimdb, kodi; data keeps all."
)
_choice = partial(Option, rich_help_panel="Which films")


@app.command(epilog=examples("mmgcs data prepare movies_metadata.csv --out films.parquet --split 80/10/10"))
def prepare(
    source: Annotated[
        Path, Argument(metavar="DATASET", help="The file, MM-IMDb's folder, or hf:owner/name.", parser=data_path)
    ],
    out: Annotated[Path, Option(metavar="FILE", help=TABLE_HELP)],
    form: Format = "auto",
    columns: Columns = None,
    genres: Annotated[str | None, _choice(help=GENRES_HELP, show_default="default")] = None,
    balance: Annotated[
        str, _choice(help="none, or top10: the same number of films for each of the ten most common genres.")
    ] = "none",
    per_genre: Annotated[
        int | None, _choice(help="Films per genre.", min=1, show_default="as many as there are")
    ] = None,
    min_words: Annotated[int, _choice(help="Drop plots with fewer words.", min=1)] = 1,
    min_films: Annotated[int, _choice(help="Drop genres with fewer films.", min=1)] = 1,
    need_plot: Annotated[bool, _choice(help="Drop films without a plot, even if they have a poster.")] = True,
    split: Annotated[str, Option(help="Shares such as 80/10/10, keep or none; auto keeps splits that exist.")] = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Read a published data set, clean and choose films, and write a table to train on, with a report next to it."""
    from mmgcs import datasets

    for path in (out, datasets.report_path(out)):
        check_free(path, "--out", overwrite=overwrite)
    chosen = None if genres is None else tuple(split_list(genres))
    if chosen == ():
        raise UsageError("--genres names no genre; write it like Drama,Comedy, or leave it out")
    report = datasets.prepare(
        source,
        out,
        source=form,
        columns=parse_columns(columns),
        genres=chosen,
        balance=balance,
        per_genre=per_genre,
        split=split,
        min_words=min_words,
        min_films=min_films,
        need_plot=need_plot,
        seed=seed,
    )
    print_result(report, datasets.describe_preparation(report), as_json)


@app.command(epilog=examples("mmgcs data inspect films.csv", "mmgcs data inspect films.csv --json"))
def inspect(
    films: Annotated[Path, Argument(metavar="FILMS", help="A table of films, or a published data set.")],
    out: Annotated[
        Path | None, Option(metavar="FILE", help="The HTML page to write.", show_default="FILMS.html")
    ] = None,
    form: Format = "auto",
    columns: Columns = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a page with charts: genres, how often they occur together, lengths, years, missing values, duplicates.

    With --json the numbers are printed, and the page is written only if --out is given.
    """
    from mmgcs.datasets import inspect_films

    page = films.with_name(f"{films.name}.html") if out is None and not as_json else out
    if page is not None:
        if page.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--out {page} is not an HTML file; give it a name ending in .html")
        check_free(page, "--out", overwrite=overwrite)
    summary = inspect_films(films, page, form, parse_columns(columns))
    text = f"{summary['films']:,} films, {len(summary['genres'])} genres; the page is {page}"
    print_result(summary, text, as_json)


@app.command(
    epilog=examples("mmgcs data split films.csv --out split.csv --split 80/10/10", "mmgcs data split split.csv --check")
)
def split(
    films: Films,
    out: Annotated[Path | None, Option(metavar="FILE", help=TABLE_HELP)] = None,
    shares: Annotated[str, Option("--split", help="The shares of train, valid and test.")] = "80/10/10",
    check: Annotated[
        bool, Option("--check", help="Write nothing; check that the splits do not leak into each other.")
    ] = False,
    columns: Columns = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Split films with each genre in proportion; a series, poster or near-duplicate plot stays within one split.

    With --check the exit status is 1 if related films (by id, series, poster or near-duplicate plot) are in two splits.
    """
    from mmgcs import datasets
    from mmgcs.tables import FilmTable

    if check == (out is not None):
        raise UsageError("give either --out FILE to split the films, or --check to check their splits")
    names = parse_columns(columns)
    if out is None:
        _check(films, names, as_json=as_json)
        return
    check_free(out, "--out", overwrite=overwrite)
    datasets.check_writable(out)
    wanted = datasets.parse_shares(shares)
    frame = _read_films(films, names, out)
    if not frame.height or not frame["genres"].str.contains(r"\w").any():
        FilmTable(films).need_genres()
        raise InputError(f"no film of {films} has a genre, so there is nothing to split by; check the column genres")
    labels = datasets.label_sets(frame["genres"])
    parts, kept_together = datasets.split_films(frame, labels, wanted, seed)
    frame = frame.with_columns(parts)
    empty = [name for name in datasets.RAW_SCHEMA if name != "poster" and frame[name].null_count() == len(frame)]
    datasets.write_films(frame.drop(empty), out)
    splits = datasets.split_counts(frame)
    result = {
        "output": str(out),
        "splits": splits,
        "largest_genre_difference_points": datasets.deviation(labels, parts),
        "kept_together": kept_together,
    }
    print_result(result, f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in splits.items()), as_json)


def _read_films(films: Path, columns: dict[str, str], out: Path | None) -> pl.DataFrame:
    """Return a table's films with all their columns; report rows that cannot be read, and do not overwrite them."""
    from mmgcs.datasets import read_raw_films

    raw = read_raw_films(films, columns, others=True)
    if raw.problems:
        left_out = f"{films}: {len(raw.problems):,} of its rows cannot be read ({raw.problems[0]})"
        if out is not None and out.exists() and out.resolve() == films.resolve():
            raise InputError(f"{left_out} and would be lost; fix them, or write another file")
        say(f"mmgcs: warning: {left_out} and are left out")
    return raw.frame


def _check(films: Path, columns: dict[str, str], *, as_json: bool) -> None:
    from mmgcs.datasets import find_leaks, read_raw_films, split_counts

    frame = read_raw_films(films, columns).frame
    counts = split_counts(frame)
    if sum(count > 0 for count in counts.values()) < 2:
        raise InputError(f"{films} has fewer than two splits, so there is nothing to check; make them with --out FILE")
    leaks = find_leaks(frame)
    if as_json:
        print_json({"splits": counts, "leaks": leaks})
        if leaks:
            raise typer.Exit(1)
        return
    for leak in leaks[:20]:
        print(f"{leak['reason']}: {' and '.join(map('{} in {}'.format, leak['films'], leak['splits']))}")
    if leaks:
        pairs = f"{len(leaks):,} pairs of related films are in different splits"
        raise MmgcsError(f"{films} leaks: {pairs}; split it again with --out FILE")
    no_leaks = "no leaks: no series, poster or near-duplicate plot spans two splits"
    print(f"{films}: {no_leaks} ({sum(counts.values()):,} films)")


@app.command(
    epilog=examples(
        "mmgcs data posters films.csv --out posters/ --films-out with_posters.csv",
        "mmgcs data posters films.csv --out posters/ --retry-failed",
    )
)
def posters(
    films: Films,
    out: Annotated[Path, Option(help="The folder for the posters.", metavar="DIR")],
    films_out: Annotated[
        Path | None, Option(help="Also write the films with the posters' file names here.", metavar="FILMS")
    ] = None,
    columns: Columns = None,
    base_url: BaseUrl = None,
    concurrency: Annotated[int, download(help="Downloads at the same time.", min=1)] = 20,
    rate: Annotated[float, download(help="Requests per second to one host; 0 for no limit.", min=0)] = 200.0,
    retries: Annotated[int, download(help="Further attempts after a temporary failure.", min=0)] = 4,
    timeout: Annotated[float, download(help="Seconds for one poster.", min=0.1)] = 30.0,
    max_wait: Annotated[float, download(help="The longest wait in seconds that a server may ask for.", min=0)] = 60.0,
    retry_failed: Annotated[bool, download("--retry-failed", help="Fetch only what failed before.")] = False,
    allow_private: AllowPrivate = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing --films-out file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the films' posters. A second run fetches the missing ones; failures are listed in DIR/failed.jsonl.

    A second run also replaces the --films-out of the first; any other file there needs --overwrite. Exit status 3 if
    some posters failed.
    """
    from mmgcs import datasets

    if films_out is not None:
        datasets.check_writable(films_out)
    options = datasets.PosterOptions(
        base_url=base_url or datasets.TMDB_BASE,
        concurrency=concurrency,
        rate=rate,
        retries=retries,
        timeout=timeout,
        max_wait=max_wait,
        retry_failed=retry_failed,
        allow_private=allow_private,
    )
    frame = _read_films(films, parse_columns(columns), films_out)
    if films_out is not None:
        check_free(films_out, "--films-out", overwrite=overwrite or datasets.is_with_posters(frame, films_out))
    kept = f"fetched posters are kept in {out}; run the same command again to continue"
    with explain_interrupt(kept), progress_bars() as update:
        result = datasets.download_posters(frame, out, options, partial(update, "posters"))
    if films_out is not None:
        datasets.write_films(datasets.with_posters(frame, out), films_out)
    reasons = result.reasons()
    counts: dict[str, Any] = {
        "downloaded": result.downloaded,
        "already": result.already,
        "without_address": result.without,
        "failed": len(result.failed),
        "failed_before": result.left,
        "reasons": reasons,
    }
    fetched = f"{result.downloaded:,} posters fetched, {result.already:,} already present"
    lines = [f"{fetched}, {result.without:,} without address"]
    lines += [f"  {count:,} failed: {reason}" for reason, count in reasons.items()]
    if result.left:
        lines.append(f"  {result.left:,} failed earlier and were skipped; try them again with --retry-failed")
    print_result(counts, "\n".join(lines), as_json)
    if result.failed:
        say(f"failures are listed in {out / datasets.FAILED}; try again with --retry-failed")
        raise typer.Exit(3)


@app.command(epilog=examples("mmgcs data glove --dim 100", "mmgcs data glove --from glove.6B.zip --out data"))
def glove(
    out: Annotated[Path, Option(help="The folder for the vectors.", metavar="DIR")] = Path("data"),
    dim: Annotated[int, Option(help="Numbers per vector: 50, 100, 200 or 300.")] = 100,
    source: Annotated[
        Path | None, Option("--from", metavar="FILE", help="Word vectors on disk: a .zip, .txt or .txt.gz.")
    ] = None,
    url: Annotated[str | None, download(help="The archive's address.", show_default="Stanford's")] = None,
    sha256: Annotated[
        str | None, download(help="The archive's SHA-256.", show_default="checked for Stanford's")
    ] = None,
    keep_zip: Annotated[bool, download("--keep-zip", help="Keep the archive for other dimensions.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the GloVe 6B word vectors (862 MB), resuming an interrupted download, and keep one dimension."""
    from mmgcs.datasets import GLOVE_URL, get_glove
    from mmgcs.word_vectors import frequent_words

    kept = f"the part fetched so far is kept in {out}; run the same command again to continue"
    with explain_interrupt(kept), progress_bars(bytes=True) as update:
        progress = partial(update, "glove.6B.zip")
        path = get_glove(
            out, dim, source=source, url=url or GLOVE_URL, sha256=sha256, keep_zip=keep_zip, progress=progress
        )
    words = len(frequent_words(path, None))
    print_result(
        {"path": str(path), "words": words, "dimension": dim}, f"{path}: {words:,} words, {dim} numbers each", as_json
    )
