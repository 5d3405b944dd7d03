"""Several processes train the model that one process trains."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import PLOT, POSTER, errors, run_command, train_command, train_on_sample, write_recipe

from mmgcs.bundle import Bundle
from mmgcs.errors import UsageError

pytestmark = pytest.mark.usefixtures("one_thread")


def without_chance(part: dict) -> dict:
    """The part without dropout, whose masks differ from process to process."""
    encoder = {"kind": part["encoder"]["kind"], "options": {**part["encoder"]["options"], "dropout": 0.0}}
    return {**part, "encoder": encoder}


@pytest.mark.slow
def test_two_processes_make_the_model_of_one(tmp_path):
    # 37 films in batches of 9: the last batch has one film, and one process none.
    training = {**PLOT["training"], "batch_size": 9}
    plot = {**without_chance(PLOT), "training": training}
    # In 32 bits: rounded to 16, sums over halves of a batch differ from those over the whole by more than the bound.
    recipe = write_recipe(
        tmp_path / "r.yaml", plot=plot, poster=without_chance(POSTER), fusion={"holdout": 0.2}, precision="32"
    )
    runs = {}
    for devices in ("1", "2"):
        runs[devices] = tmp_path / devices
        done = run_command(
            train_command(recipe, runs[devices], "--devices", devices, "--set", "fusion.training.epochs=2")
        )
        assert done.returncode == 0, done.stderr
        assert errors(done.stderr) == []
    one, two = (load_file(run / "plot" / "encoder.safetensors") for run in runs.values())
    assert all(torch.allclose(value, two[name], atol=1e-4) for name, value in one.items())
    cards = [Bundle(run / "bundle").card()["evaluation"]["conditions"] for run in runs.values()]
    for mine, theirs in zip(*cards, strict=True):
        # Posters' BatchNorm sees the films of its own process only, so that branch is alike and not equal.
        if set(mine["inputs"]) == {"plot"}:
            assert abs(mine["tuned"]["micro_f1"]["value"] - theirs["tuned"]["micro_f1"]["value"]) < 0.005


@pytest.mark.slow
def test_a_process_that_dies_ends_the_training_in_one_line_and_it_resumes_alone(tmp_path):
    long = {**PLOT, "training": {**PLOT["training"], "epochs": 1000}}
    recipe, out = write_recipe(tmp_path / "r.yaml", plot=long), tmp_path / "run"
    command = train_command(recipe, out, "--devices", "2")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = out / "plot" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    other = max(int(pid) for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(other, signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = errors(stderr)
    assert "a training process ended (SIGKILL); the last good checkpoint is kept: resume with --resume" in line
    reached = int(torch.load(last, weights_only=True)["global_step"])
    process = subprocess.Popen([*train_command(recipe, out, "--resume")], stderr=subprocess.DEVNULL)
    try:
        while int(torch.load(last, weights_only=True)["global_step"]) <= reached and time.monotonic() < deadline + 120:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert int(torch.load(last, weights_only=True)["global_step"]) > reached


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()


def test_more_processes_than_films_in_a_batch_are_refused(tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", plot=PLOT)
    with pytest.raises(UsageError, match=r"--devices 9"):
        train_on_sample(recipe, tmp_path / "run", devices=9)
