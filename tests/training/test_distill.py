"""Soft targets: a model that learns from another model's answers."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_training import PLOT, POSTER, errors, run_command, train_command, write_recipe

from mmgcs.film import Film
from mmgcs.runtime import load, sigmoid
from mmgcs.sample import sample_films
from mmgcs.training.distill import read_soft_targets
from mmgcs.training.labelled import read_labelled

POLISH = "Dwaj detektywi ścigają mordercę przez miasto i sami stają się podejrzanymi o zbrodnię sprzed lat."


def test_a_student_learns_from_a_finished_bundle(tmp_path, one_thread):
    recipe = write_recipe(tmp_path / "student.yaml", plot={**PLOT, "distill": {"teacher": "default", "share": 0.9}})
    done = run_command(train_command(recipe, tmp_path / "run", "--json"))
    assert done.returncode == 0, done.stderr
    said = np.load(tmp_path / "run" / "plot" / "teacher.npy")
    film = next(row for row in range(len(said)) if np.isfinite(said[row]).all())
    assert (said[film] > 0).all() and (said[film] < 1).all()


def test_posters_learn_from_the_plot_branch_of_the_same_training(tmp_path, one_thread):
    poster = {**POSTER, "distill": {"teacher": "plot"}}
    recipe = write_recipe(
        tmp_path / "student.yaml", plot=PLOT, poster=poster, fusion={"holdout": 0.45, "training": {"epochs": 1}}
    )
    done = run_command(train_command(recipe, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    said = np.load(tmp_path / "run" / "poster" / "teacher.npy")
    answered = said[np.isfinite(said).all(1)]
    assert len(answered) >= 4
    assert answered.std(0).min() > 0, "the teacher answers every film alike"
    assert not (tmp_path / "run" / "poster" / "teacher").exists()


def test_a_teacher_that_does_not_know_the_genres_is_refused(tmp_path, one_thread):
    recipe = write_recipe(tmp_path / "student.yaml", genres=["Drama", "Kaiju"], plot=PLOT)
    table = tmp_path / "films.csv"
    films = [
        f"{index},Story number {index} of a town.,{('Drama', 'Kaiju')[index % 2]},{'valid' if index > 15 else 'train'}"
        for index in range(24)
    ]
    table.write_text("\n".join(["id,plot,genres,split", *films]), encoding="utf-8")
    done = run_command(train_command(recipe, tmp_path / "run", "--set", "plot.distill.teacher=default", data=table))
    assert done.returncode == 2
    (line,) = errors(done.stderr)
    assert "distill.teacher: default does not know Kaiju; give another teacher" in line


def test_a_plot_that_the_teacher_cannot_read_gets_the_answer_to_another_plot_of_the_film(tmp_path):
    table = tmp_path / "films.csv"
    rows = [
        "tt1,Two detectives hunt a killer through the city and become suspects themselves.,Crime,train",
        f"tt1,{POLISH},Crime,train",
        f"tt2,{POLISH},Crime,train",
        "tt3,A family inherits a farm and a donkey.,Comedy,valid",
        "tt4,A donkey inherits a farm and a family.,Comedy,train",
        "tt5,A murderer is caught by two detectives.,Crime,valid",
    ]
    table.write_text("\n".join(["id,plot,genres,split", *rows]), encoding="utf-8")
    data = read_labelled(table, None, None, None)
    said = read_soft_targets(tmp_path / "said.npy", "default", data, data.rows("train", "plot"))
    english, other, alone = (said[row] for row in range(3))
    assert np.isfinite(english).all() and (english == other).all()
    assert np.isnan(alone).all()


def test_the_teacher_reads_the_posters_of_a_student_of_plots(tmp_path):
    poster = next(film.poster for film in sample_films() if film.poster)
    plot = "Two detectives hunt a killer through the city and become suspects themselves."
    table = tmp_path / "films.csv"
    rows = [f"tt1,{plot},,Crime,train", f"tt2,{plot},{poster.name},Thriller,train"]
    rows.append(f"tt5,{POLISH},{poster.name},Crime,train")
    rows += [f"tt3,{plot},,Crime,valid", f"tt4,{plot},,Thriller,valid"]
    table.write_text("\n".join(["id,plot,poster,genres,split", *rows]), encoding="utf-8")
    data = read_labelled(table, poster.parent, None, None)
    said = read_soft_targets(tmp_path / "said.npy", "default", data, data.rows("train", "plot"))
    teacher = load()
    wanted = sigmoid(teacher.logits(teacher.features([Film(plot=plot), Film(plot=plot, poster=poster)])))
    teacher_of_poster = sigmoid(teacher.logits(teacher.features([Film(poster=poster)])))[0]
    columns = [teacher.genres.index(genre) for genre in data.genres]
    assert said[:2] == pytest.approx(wanted[:, columns], abs=1e-5)
    assert abs(said[0] - said[1]).max() > 0.05
    assert said[2] == pytest.approx(
        teacher_of_poster[columns], abs=1e-5
    )  # the plot is in a language it has not learned
