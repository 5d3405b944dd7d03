"""`mmgcs ensemble` joins bundles into one."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from mmgcs.bundle import Bundle
from mmgcs.cli import main
from mmgcs.evaluation import WEIGHINGS, fit_blend
from mmgcs.runtime import load, verify
from mmgcs.sample import sample_films, sample_table
from mmgcs.tables import read_films


def join(tmp_path, bundles, *more):
    table = sample_table()
    common = ["--data", str(table), "--posters", str(table.parent), "--out", str(tmp_path / "joined")]
    return main(["ensemble", *map(str, bundles), *common, *more])


@pytest.mark.parametrize("method", ["weighted", "stacked"])
def test_the_joined_bundle_predicts_the_weighted_sum_of_its_members(tiny_bundle, tmp_path, method, capsys):
    assert join(tmp_path, [tiny_bundle, tiny_bundle], "--method", method, "--json") == 0
    scores = json.loads(capsys.readouterr().out)["valid_mean_average_precision"]
    joined, alone = load(tmp_path / "joined"), load(tiny_bundle)
    checks = {check.name: check for check in verify(tmp_path / "joined")}
    assert all(check.passed for check in checks.values())
    assert "recorded predictions" in checks["card"].detail
    films = [film for film in sample_films() if film.plot and film.poster][:5]
    ours, theirs = joined.logits(joined.features(films)), alone.logits(alone.features(films))
    if method == "weighted":  # the same bundle twice: shares add up to one
        assert np.allclose(ours, theirs, atol=1e-4)
    assert (np.argsort(ours[0]) == np.argsort(theirs[0])).all() or method == "stacked"
    assert set(scores) == {"plot", "poster", "plot+poster"}
    if method == "weighted":  # an ensemble can be a member of another
        common = ["--data", str(sample_table()), "--posters", str(sample_table().parent)]
        command = ["ensemble", str(tmp_path / "joined"), str(tiny_bundle), *common, "--out", str(tmp_path / "again")]
        assert main(command) == 0
        assert len(Bundle(tmp_path / "again").config.branches) == 6
    for film in films:
        assert joined.predict(plot=film.plot).inputs == ("plot",)
        assert joined.predict(poster=film.poster).inputs == ("poster",)


def damage(posters, count):
    """Copy the sample's posters, but damage those of the first `count` films of split valid."""
    shutil.copytree(sample_table().parent / "posters", posters / "posters")
    valid = [film for film in sample_films() if film.split == "valid" and film.poster and film.genres]
    for film in valid[:count]:
        (posters / film.poster.relative_to(sample_table().parent)).write_bytes(b"no picture")
    return valid


def test_films_with_unreadable_posters_do_not_count_for_the_weights_of_posters(tiny_bundle, tmp_path):
    valid = damage(tmp_path / "damaged", 2)
    members = [load(tiny_bundle), load(tiny_bundle)]
    films = [film for chunk in read_films(sample_table(), posters=tmp_path / "damaged") for film in chunk]
    films = [film for film in films if film.split == "valid"]
    broken = {film.id for film in valid[:2]}
    readable = fit_blend(members, [film for film in films if film.id not in broken], "weighted")
    blend = fit_blend(members, films, "weighted")
    for condition in ("poster", "plot+poster"):
        assert blend.decisions[condition] == readable.decisions[condition]
        assert blend.average_precision[condition] == readable.average_precision[condition]
    assert blend.decisions["plot"] != readable.decisions["plot"]  # their plots count


def test_unreadable_posters_alone_are_reported_in_one_line(tiny_bundle, tmp_path, capsys):
    damage(tmp_path / "damaged", None)
    (tmp_path / "empty").mkdir()
    for posters in ("damaged", "empty"):
        assert join(tmp_path, [tiny_bundle, tiny_bundle], "--posters", str(tmp_path / posters)) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert "no film of split valid has a poster that can be read" in said
        assert "--posters" in said
    assert not (tmp_path / "joined").exists()


def test_a_good_member_outweighs_a_useless_one():
    random = np.random.default_rng(0)
    truth = random.random((200, 3)) < 0.4
    good, noise = truth * 2.0 - 1.0 + random.normal(size=truth.shape), random.normal(size=truth.shape)
    for name in ("weighted", "stacked"):
        weights = WEIGHINGS[name](np.stack([good, noise]), truth)
        assert (weights[0] > 2 * weights[1]).all()
        assert (weights >= 0).all()


def test_a_wrong_call_is_refused_in_one_line(tiny_bundle, tmp_path, capsys):
    assert join(tmp_path, [tiny_bundle]) == 2
    assert "needs two or more bundles" in capsys.readouterr().err
    assert join(tmp_path, [tiny_bundle, tmp_path / "none"]) == 2
    assert join(tmp_path, [tiny_bundle, tiny_bundle], "--method", "voting") == 2
    assert "known: stacked, weighted" in capsys.readouterr().err
    shutil.copytree(tiny_bundle, tmp_path / "joined")
    assert join(tmp_path, [tiny_bundle, tiny_bundle]) == 2
    assert "already holds a bundle" in capsys.readouterr().err
