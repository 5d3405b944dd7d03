"""Splits keep genres in proportion and related films together, and leaks are found."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgcs.datasets import deviation, find_leaks, label_sets, parse_shares, split_films, stratify
from mmgcs.datasets.duplicates import THRESHOLD, near_duplicates
from mmgcs.datasets.prepare import strictly_balanced
from mmgcs.datasets.split import group_numbers, leak_groups, series_key
from mmgcs.errors import UsageError

WORDS = "amber boat cellar dune ember field ghost harbour island jewel kettle ladder mirror needle orchard".split()


def plots(count: int, words: int = 30, seed: int = 0) -> list[str]:
    return [" ".join(row) for row in np.random.default_rng(seed).choice(WORDS, (count, words))]


def films(count: int = 2000, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    chances = {"Drama": 0.5, "Comedy": 0.3, "Horror": 0.1, "Music": 0.02}
    drawn = {genre: rng.random(count) < chance for genre, chance in chances.items()}
    genres = ["|".join(genre for genre in chances if drawn[genre][row]) or "Drama" for row in range(count)]
    titles = [f"{a} {b} {c}" for a, b, c in rng.choice(WORDS, (count, 3))]
    return pl.DataFrame(
        {"id": [str(row) for row in range(count)], "title": titles, "plot": plots(count), "genres": genres}
    )


def test_every_genre_has_its_share_in_every_split():
    frame = films()
    labels = label_sets(frame["genres"])
    parts = pl.Series(["train", "valid", "test"]).gather(stratify(labels, np.arange(frame.height), (0.8, 0.1, 0.1)))
    assert {name: int((parts == name).sum()) for name in ("train", "valid", "test")} == {
        "train": 1600, "valid": 200, "test": 200}  # fmt: skip
    assert max(deviation(labels, parts).values()) <= 0.5
    music = frame["genres"].str.contains("Music")
    expected = int(music.sum()) / 10
    assert abs(int((parts.filter(music) == "test").sum()) - expected) <= 1


def test_groups_stay_whole_and_genres_in_proportion_all_the_same():
    frame = films()
    labels = label_sets(frame["genres"])
    groups = np.random.default_rng(1).integers(0, 700, frame.height)
    parts = stratify(labels, np.unique(groups, return_inverse=True)[1], (0.7, 0.2, 0.1))
    for group in range(700):
        assert len(set(parts[groups == group])) <= 1
    assert set(stratify(labels, groups, (0.8, 0.2, 0.0)).tolist()) == {0, 1}  # a split without a share gets no film
    names = pl.Series(["train", "valid", "test"]).gather(parts)
    assert max(deviation(labels, names).values()) < 1.0
    assert abs((parts == 2).sum() - 200) <= 4


def test_a_seed_decides_the_split():
    frame = films(300)
    labels = label_sets(frame["genres"])
    first, again, other = (stratify(labels, np.arange(300), (0.8, 0.1, 0.1), seed).tolist() for seed in (1, 1, 2))
    assert first == again != other
    whole = [split_films(frame, labels, (0.8, 0.1, 0.1), seed)[0] for seed in (0, 1)]
    assert split_films(frame, labels, (0.8, 0.1, 0.1))[0].equals(whole[0])
    assert not whole[0].equals(whole[1])
    assert whole[0].dtype == pl.String


@pytest.mark.parametrize("genres", [["Drama"] * 7, ["Drama", "Comedy"], ["Drama"], ["Drama"] * 9 + ["Music"]])
def test_few_films_and_few_genres_are_split_too(genres):
    labels = label_sets(pl.Series("genres", genres))
    parts = stratify(labels, np.arange(len(genres)), (0.8, 0.1, 0.1))
    assert len(parts) == len(genres)
    assert (parts == 0).any()


@pytest.mark.parametrize(
    "titles",
    [
        ["The Godfather", "The Godfather Part II", "The Godfather: Part III"],
        ["Rocky", "Rocky II", "Rocky 3", "Rocky IV"],
        ["Harry Potter and the Goblet of Fire", "Harry Potter and the Half-Blood Prince"],
        ["Star Wars: The Last Jedi", "Star Wars: Episode IV - A New Hope", "STAR WARS"],
        ["Kill Bill: Vol. 1", "Kill Bill Vol. 2"],
        ["Alien", "Alien: Covenant", "Alien 3"],
        ["Ocean’s Eleven", "Ocean's Eleven"],
    ],
)
def test_films_of_a_series_have_one_key(titles):
    assert len(set(series_key(pl.Series(titles)))) == 1


def test_series_near_duplicates_collections_and_posters_share_a_split():
    frame = films(400)
    edited = " ".join(["another", *frame["plot"][10].split()[1:]])
    frame = frame.with_columns(
        plot=frame["plot"].scatter(20, edited),
        title=frame["title"].scatter([1, 2, 3], ["Rocky", "Rocky II", "Rocky III"]),
        collection=pl.Series([None] * 400, dtype=pl.String).scatter([4, 5], ["Ours", "Ours"]),
        poster_path=pl.Series([None] * 400, dtype=pl.String).scatter([6, 7], ["/a.jpg", "/a.jpg"]),
    )
    parts, links = split_films(frame, label_sets(frame["genres"]), (0.5, 0.25, 0.25))
    for together in ([10, 20], [1, 2, 3], [4, 5], [6, 7]):
        assert len(set(parts.gather(together))) == 1
    assert set(links) >= {"near-duplicate plot", "series by title", "series by collection", "poster"}
    assert find_leaks(frame.with_columns(parts)) == []


@pytest.mark.parametrize("reason", ["near-duplicate plot", "series by title", "id", "poster"])
def test_every_kind_of_leak_is_found(reason):
    frame = films(200)
    parts, _ = split_films(frame, label_sets(frame["genres"]))
    frame = frame.with_columns(parts, poster_url=pl.col("id") + ".jpg")
    left, right = (parts == "train").arg_true()[0], (parts == "test").arg_true()[0]
    column, value = {
        "near-duplicate plot": ("plot", frame["plot"][left] + " again"),
        "series by title": ("title", frame["title"][left] + " 2"),
        "id": ("id", frame["id"][left]),
        "poster": ("poster_url", frame["poster_url"][left]),
    }[reason]
    frame = frame.with_columns(frame[column].scatter(right, value))
    leaks = find_leaks(frame)
    assert reason in {leak["reason"] for leak in leaks}
    pairs = [*zip(leaks[0]["films"], leaks[0]["splits"], strict=True)]
    assert sorted(pairs) == sorted([(frame["id"][left], "train"), (frame["id"][right], "test")])


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.sub(r"[^\w ]+|_", "", text.lower()).split(" ")
    return {tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))} if text.strip() else set()


def groups_by_comparing_all(texts: list[str]) -> list[int]:
    sets = [shingles(text) for text in texts]
    group = list(range(len(texts)))
    for right in range(len(texts)):
        for left in range(right):
            if sets[left] and len(sets[left] & sets[right]) >= THRESHOLD * len(sets[left] | sets[right]):
                group = [group[left] if number == group[right] else number for number in group]
    return group


def same_partition(ours: list[int], theirs: list[int]) -> bool:
    return len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from(WORDS[:5]), max_size=9).map(" ".join), min_size=1, max_size=14))
def test_near_duplicates_are_exactly_those_that_comparing_all_pairs_finds(texts):
    links = near_duplicates(pl.Series("plot", texts, dtype=pl.String))
    table = pl.DataFrame({"left": links[:, 0], "right": links[:, 1]})
    assert same_partition(group_numbers(table, len(texts)).tolist(), groups_by_comparing_all(texts))


def test_a_thousand_copies_are_linked_without_a_million_pairs():
    base = plots(3, words=40)
    texts = [f"{base[number % 3]} number {number}" for number in range(3000)] + plots(500, seed=9)
    links = near_duplicates(pl.Series("plot", texts))
    table = pl.DataFrame({"left": links[:, 0], "right": links[:, 1]})
    groups = group_numbers(table, len(texts))
    assert [len(set(groups[start:3000:3])) for start in range(3)] == [1, 1, 1]
    assert len(set(groups)) == 3 + 500
    assert len(links) < 30_000


def test_missing_plots_and_titles_belong_to_nothing():
    frame = pl.DataFrame({"id": list("abcd"), "title": [None] * 4, "plot": [None, "", " ", None]},
                         schema={"id": pl.String, "title": pl.String, "plot": pl.String})  # fmt: skip
    assert leak_groups(frame).height == 0


@pytest.mark.parametrize("count", [3, None])
def test_balancing_takes_equally_many_films_for_each_genre(count):
    labels = label_sets(films(1000)["genres"])
    rows = strictly_balanced(labels, count, seed=0)
    assert len(rows) == len(set(rows.tolist())) == len(labels.genres) * (count or int(labels.counts().min()))
    assert np.all(np.diff(rows) > 0)
    chosen = labels.take(rows)
    assert chosen.counts().min() >= (count or int(labels.counts().min()))


def test_balancing_finds_the_most_that_is_possible_where_films_have_several_genres():
    # Both genres have three films, but share two: four films in all, so two for each.
    labels = label_sets(pl.Series(["A|B", "A|B", "A", "B"]))
    assert len(strictly_balanced(labels, None, 0)) == 4
    with pytest.raises(UsageError, match="--per-genre 3 is more than the films allow"):
        strictly_balanced(labels, 3, 0)


def test_shares_are_read_or_refused():
    assert parse_shares("3/0/1") == (0.75, 0.0, 0.25)
    assert parse_shares("0.75/0.25/0") == (0.75, 0.25, 0.0)
    assert parse_shares("70/20/10") == pytest.approx((0.7, 0.2, 0.1))
    for text in ("80/20", "a/b/c", "0/50/50", "-1/1/1", "nan/1/1"):
        with pytest.raises(UsageError, match="--split"):
            parse_shares(text)


def test_the_deviation_is_the_largest_difference_of_a_share_in_points():
    labels = label_sets(pl.Series("genres", ["Drama", "Drama|Comedy", "Comedy", "Drama"]))
    parts = pl.Series(["train", "train", "valid", None])
    # Overall 3 of 4 have Drama and 2 of 4 Comedy; train has 2 and 1 of 2, valid 0 and 1 of 1, test nobody.
    assert deviation(labels, parts) == {"train": 25.0, "valid": 75.0}
