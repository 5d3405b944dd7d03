"""`mmgcs data`: prepare, inspect and split labelled films; fetch posters and word vectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgcs.cli.output import new_app, print_json, progress_bars, say
from mmgcs.errors import InputError, MmgcsError, UsageError
from mmgcs.files import check_free

if TYPE_CHECKING:
    import polars as pl

app = new_app("Prepare, inspect and split labelled films; fetch posters and word vectors.")

Films = Annotated[Path, typer.Argument(metavar="FILMS", help="A table of films, of any form that mmgcs tag reads.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
Seed = Annotated[int, typer.Option(help="Decides every random choice.")]
Reader = Annotated[
    str, typer.Option("--from", help="The data set's form: auto, tmdb, movielens, mmimdb, original or films.")
]


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(metavar="DATASET", help="The data set's file, or MM-IMDb's folder.")],
    out: Annotated[Path, typer.Option(help="The table to write: .csv, .tsv, .jsonl or .parquet.")],
    form: Reader = "auto",
    genres: Annotated[
        str | None, typer.Option(help="Genres to keep: A,B,C, or default, tmdb, imdb, mmimdb, kodi, all.")
    ] = None,
    balance: Annotated[str, typer.Option(help="none, or top10: as many films for each of the ten commonest.")] = "none",
    per_genre: Annotated[
        int | None, typer.Option(help="Films for each genre; without it, as many as there are.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="80/10/10 makes a split; keep, none; auto keeps one or makes none.")
    ] = "auto",
    min_words: Annotated[int, typer.Option(help="The fewest words of a plot.")] = 1,
    min_films: Annotated[int, typer.Option(help="Leave out genres with fewer films.")] = 1,
    need_plot: Annotated[bool, typer.Option(help="Drop films without a plot, even with a poster.")] = True,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Read a published data set, clean and choose films, and write a table to train on, with a report beside it."""
    from mmgcs.datasets import PrepareOptions, describe
    from mmgcs.datasets import prepare as run
    from mmgcs.datasets.prepare import report_path

    for path in (out, report_path(out)):
        check_free(path, "--out", overwrite=overwrite)
    chosen = tuple(name.strip() for name in genres.split(",") if name.strip()) if genres is not None else None
    if chosen == ():
        raise UsageError("--genres names no genre; write it like Drama,Comedy, or leave it out")
    options = PrepareOptions(
        source=form,
        genres=chosen,
        balance=balance,
        per_genre=per_genre,
        split=split,
        min_words=min_words,
        min_films=min_films,
        need_plot=need_plot,
        seed=seed,
    )
    report = run(source, out, options)
    if as_json:
        print_json(report)
    else:
        print(describe(report))


@app.command()
def inspect(
    films: Annotated[Path, typer.Argument(metavar="FILMS", help="A table of films, or a published data set.")],
    out: Annotated[Path | None, typer.Option(help="The page to write.", show_default="FILMS.html")] = None,
    form: Reader = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a page with charts: genres, which come together, lengths, years, missing parts, duplicates.

    With --json the numbers are printed, and a page is written only where --out names one.
    """
    from mmgcs.datasets.inspection import inspect_films

    page = films.with_name(f"{films.name}.html") if out is None and not as_json else out
    if page is not None:
        if page.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--out {page} is no page; give it a name ending in .html")
        check_free(page, "--out", overwrite=overwrite)
    summary = inspect_films(films, page, form)
    if as_json:
        print_json(summary.to_json())
    else:
        print(f"{summary.films:,} films, {len(summary.genres)} genres; the page is {page}")


@app.command()
def split(
    films: Films,
    out: Annotated[Path | None, typer.Option(help="The table to write: .csv, .tsv, .jsonl or .parquet.")] = None,
    shares: Annotated[str, typer.Option("--split", help="The shares of train, valid and test.")] = "80/10/10",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; prove that no split leaks into another.")
    ] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Split films by genre in proportion, keeping series and near-duplicate plots together; or prove that a split does.

    With --check the exit status is 1 where films of different splits share an id, a series, a poster or nearly a plot.
    """
    if check == (out is not None):
        raise UsageError("give either --out FILE to split the films, or --check to look at the splits that they have")
    if out is None:
        _check(films, as_json=as_json)
    else:
        check_free(out, "--out", overwrite=overwrite)
        _split(films, out, shares, seed, as_json=as_json)


def _split(films: Path, out: Path, shares: str, seed: int, *, as_json: bool) -> None:
    from mmgcs.datasets import label_sets, parse_shares, read_films, split_films, write_films
    from mmgcs.datasets.films import check_writable
    from mmgcs.datasets.split import deviation

    check_writable(out)
    wanted = parse_shares(shares)
    frame = _with_genres(read_films(films).frame, films)
    labels = label_sets(frame["genres"])
    parts, links = split_films(frame, labels, wanted, seed)
    frame = frame.with_columns(parts)
    write_films(
        frame.select(name for name in frame.columns if name == "poster" or frame[name].null_count() < len(frame)), out
    )
    splits = {name: int((parts == name).sum()) for name in ("train", "valid", "test")}
    result = {
        "output": str(out),
        "splits": splits,
        "largest_genre_difference_points": deviation(labels, parts),
        "kept_together": dict(links["reason"].value_counts().sort("reason").iter_rows()),
    }
    if as_json:
        print_json(result)
    else:
        print(f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in splits.items()))


def _with_genres(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    if not frame.height or not frame["genres"].str.contains(r"\w").any():
        from mmgcs.tables import need_column

        need_column(path, "genres")
        raise InputError(f"no film of {path} has a genre, so there is nothing to split by; check the column genres")
    return frame


def _check(films: Path, *, as_json: bool) -> None:
    from mmgcs.datasets import find_leaks, read_films

    frame = read_films(films).frame
    counts = {name: int((frame["split"] == name).sum()) for name in ("train", "valid", "test")}
    if sum(count > 0 for count in counts.values()) < 2:
        raise InputError(f"{films} has fewer than two splits, so there is nothing to check; make them with --out FILE")
    leaks = find_leaks(frame)
    if as_json:
        records = [
            {"reason": leak.reason, "films": [leak.left, leak.right], "splits": list(leak.splits)} for leak in leaks
        ]
        print_json({"splits": counts, "leaks": records})
    else:
        for leak in leaks[:20]:
            print(f"{leak.reason}: {leak.left} in {leak.splits[0]}, {leak.right} in {leak.splits[1]}")
    if leaks and as_json:
        raise typer.Exit(1)
    if leaks:
        raise MmgcsError(
            f"{films} leaks: {len(leaks):,} pairs of films that belong together; split it again with --out FILE"
        )
    if not as_json:
        print(f"{films}: no film of one split belongs with a film of another ({sum(counts.values()):,} films)")


@app.command()
def posters(
    films: Films,
    out: Annotated[Path, typer.Option(help="The folder for the posters.", metavar="DIR")],
    films_out: Annotated[
        Path | None, typer.Option(help="Also write the films with the posters' file names here.", metavar="FILMS")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="What stands before a poster_path.", show_default="TMDB's")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Downloads under way at once.")] = 20,
    rate: Annotated[float, typer.Option(help="Requests a second to one host; 0 for no limit.")] = 200.0,
    retries: Annotated[int, typer.Option(help="Further tries after a failure that may pass.")] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds for one poster.")] = 30.0,
    max_wait: Annotated[float, typer.Option(help="The longest wait in seconds that a server may ask for.")] = 60.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Fetch what failed before, nothing else.")
    ] = False,
    allow_private: Annotated[bool, typer.Option("--allow-private", help="Also from private addresses.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --films-out, whatever it holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the films' posters; a second run fetches what is left. What failed, and why, is in DIR/failed.jsonl.

    A second run also replaces what the first wrote to --films-out; any other file there needs --overwrite. The exit
    status is 3 where some posters failed.
    """
    from mmgcs.datasets import read_films, write_films
    from mmgcs.datasets.films import check_writable
    from mmgcs.datasets.poster_files import is_with_posters, with_posters
    from mmgcs.datasets.posters import FAILED, TMDB_BASE, PosterOptions, download_posters

    if films_out is not None:
        check_writable(films_out)
    options = PosterOptions(
        base_url=base_url or TMDB_BASE,
        concurrency=concurrency,
        rate=rate,
        retries=retries,
        timeout=timeout,
        max_wait=max_wait,
        retry_failed=retry_failed,
        allow_private=allow_private,
    )
    frame = read_films(films).frame
    if films_out is not None:
        check_free(films_out, "--films-out", overwrite=overwrite or is_with_posters(frame, films_out))
    with progress_bars() as tell:
        result = download_posters(frame, out, options, partial(tell, "posters"))
    if films_out is not None:
        write_films(with_posters(frame, out), films_out)
    counts: dict[str, Any] = {
        "downloaded": result.downloaded,
        "already": result.already,
        "without_address": result.without,
        "failed": len(result.failed),
        "failed_before": result.left,
        "reasons": result.reasons(),
    }
    if as_json:
        print_json(counts)
    else:
        print(
            f"{result.downloaded:,} posters fetched, {result.already:,} were there, {result.without:,} have no address"
        )
        for reason, count in result.reasons().items():
            print(f"  {count:,} failed: {reason}")
        if result.left:
            print(f"  {result.left:,} failed earlier and were left alone; --retry-failed tries them again")
    if result.failed:
        say(f"what failed is in {out / FAILED}; try again with --retry-failed")
        raise typer.Exit(3)


@app.command()
def glove(
    out: Annotated[Path, typer.Option(help="The folder for the vectors.", metavar="DIR")] = Path("data"),
    dim: Annotated[int, typer.Option(help="Numbers in a vector: 50, 100, 200 or 300.")] = 100,
    source: Annotated[
        Path | None, typer.Option("--from", help="A glove.6B.zip, .txt or .txt.gz that is here already.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The archive's address.", show_default="Stanford's")] = None,
    sha256: Annotated[str | None, typer.Option(help="The archive's SHA-256; known for Stanford's.")] = None,
    keep_zip: Annotated[bool, typer.Option("--keep-zip", help="Keep the archive for other dimensions.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the GloVe 6B word vectors (862 MB), going on where an earlier try stopped, and keep one dimension."""
    from mmgcs.datasets.glove import GLOVE_URL, get_glove, load_glove

    with progress_bars(bytes=True) as tell:
        progress = partial(tell, "glove.6B.zip")
        path = get_glove(
            out, dim, source=source, url=url or GLOVE_URL, sha256=sha256, keep_zip=keep_zip, progress=progress
        )
    words, vectors = load_glove(path)
    if as_json:
        print_json({"path": str(path), "words": len(words), "dimension": int(vectors.shape[1])})
    else:
        print(f"{path}: {len(words):,} words, {vectors.shape[1]} numbers each")
