"""What goes wrong in a training ends in one clear line, and the last good checkpoint is kept."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import PLOT, POSTER, errors, run_command, train_command, train_on_sample, write_recipe

from mmgcs.errors import MmgcsError
from mmgcs.sample import sample_films, sample_table
from mmgcs.training.module import BranchModule

pytestmark = pytest.mark.usefixtures("one_thread")

LONG = {**PLOT, "training": {**PLOT["training"], "epochs": 400}}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "plot" / "encoder.safetensors")


def step_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["global_step"])


def wait_for(path: Path, process: subprocess.Popen[str], step: int = 1) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if path.is_file() and step_of(path) >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint of step {step}; {process.communicate()[1]}")


def begun(command: list[str]) -> subprocess.Popen[str]:
    # Shells start background processes with Ctrl-C ignored; these processes should always receive it.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "batch_size", "validations", "steps"),
    [("plateau", 10, 1, 6), ("linear", 5, 2, 10)],  # of five steps the second and the fourth are validated
)
def test_a_training_stopped_at_any_step_resumes_to_the_very_same_model(
    tmp_path, monkeypatch, schedule, batch_size, validations, steps
):
    settings = {"mixup": 0.3, "batch_size": batch_size, "validations": validations, "schedule": schedule}
    settings["average"] = 0.9 if schedule == "linear" else 0.0
    training = {**PLOT["training"], **settings}
    plot = {**PLOT, "views": 2, "augment": [{"kind": "word_dropout"}], "training": training}
    recipe = write_recipe(tmp_path / "r.yaml", plot=plot)
    bundle = train_on_sample(recipe, tmp_path / "undisturbed")
    expected = weights(tmp_path / "undisturbed")
    assert step_of(tmp_path / "undisturbed" / "plot" / "last.ckpt") == steps
    step = BranchModule.training_step
    for stop in range(1, steps):

        def stopped(self, batch, index, stop=stop):
            if self.global_step == stop:
                raise KeyboardInterrupt
            return step(self, batch, index)

        out = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(BranchModule, "training_step", stopped)
            train_on_sample(recipe, out)
        assert step_of(out / "plot" / "last.ckpt") == stop
        again = train_on_sample(recipe, out, resume=True)
        assert all(torch.equal(value, weights(out)[name]) for name, value in expected.items()), f"stopped at {stop}"
        assert again.card()["evaluation"] == bundle.card()["evaluation"]


@pytest.mark.slow
def test_ctrl_c_ends_in_one_line_and_the_run_can_be_resumed(tmp_path):
    recipe, out = write_recipe(tmp_path / "r.yaml", plot=LONG), tmp_path / "run"
    process = begun(train_command(recipe, out))
    wait_for(out / "plot" / "last.ckpt", process, 5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = errors(stderr)
    assert line.startswith("mmgcs: error: interrupted; the last checkpoint is kept")
    assert "--resume" in line
    kept = step_of(out / "plot" / "last.ckpt")
    assert kept >= 5
    # A disk with no room for another checkpoint: the one that is there stays whole.
    limit = (out / "plot" / "last.ckpt").stat().st_size // 2
    done = run_command(
        train_command(recipe, out, "--resume"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    (line,) = errors(done.stderr)
    assert "is full; the last good checkpoint is kept: free space and resume with --resume" in line
    assert step_of(out / "plot" / "last.ckpt") == kept


def test_a_loss_that_is_no_number_ends_in_one_line_and_no_checkpoint_of_it_is_kept(tmp_path):
    wild = {**LONG["training"], "lr": 1e30, "head_lr": 1e30, "clip": 1e30, "warmup": 0.0}
    recipe, out = write_recipe(tmp_path / "r.yaml", plot={**LONG, "training": wild}), tmp_path / "run"
    with pytest.raises(MmgcsError, match="the last good checkpoint is kept: lower the learning rate"):
        train_on_sample(recipe, out)
    # Step 1 made the weights that gave the loss, and no good ones were there before.
    assert not (out / "plot" / "last.ckpt").exists()


@pytest.mark.slow
def test_unreadable_posters_are_left_out_named_and_do_not_stop_a_training(tmp_path):
    posters = tmp_path / "films"
    shutil.copytree(sample_table().parent / "posters", posters / "posters")
    learned = [film.poster for film in sample_films() if film.poster and film.split == "train"]
    broken = [posters / "posters" / Path(str(poster)).name for poster in learned[:3]]
    broken[0].write_bytes(b"")
    broken[1].write_text("<html>not found</html>", encoding="utf-8")
    broken[2].unlink()
    recipe, out = write_recipe(tmp_path / "r.yaml", poster=POSTER), tmp_path / "run"
    command = train_command(recipe, out)
    command[command.index("--posters") + 1] = str(posters)
    done = run_command(command)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "could not be read" in line]
    assert said == [f"poster: 3 could not be read; see {out / 'poster' / 'unreadable.json'}"]
    assert len(json.loads((out / "poster" / "unreadable.json").read_text(encoding="utf-8"))) == 3


def test_unreadable_posters_alone_are_refused_with_the_first_reason(tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", poster=POSTER)
    (tmp_path / "none").mkdir()
    with pytest.raises(MmgcsError, match=r"none of \d+ posters could be read; the first: "):
        train_on_sample(recipe, tmp_path / "run", posters=tmp_path / "none")
