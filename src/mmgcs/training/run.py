"""A training from recipe to bundle: branches, then their fusion, then decisions, card and graphs.

Every stage leaves its result in the run's folder and is skipped when it is there, so `--resume` after a kill goes on
from the last saved step.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmgcs.bundle import Bundle
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import write_json
from mmgcs.models import ENCODERS, Encoder, MemberEncoder, SourceHead, join_heads
from mmgcs.preprocess import PlotTokens
from mmgcs.training.augment import Augmenter
from mmgcs.training.cache import BranchData
from mmgcs.training.check import check_recipe
from mmgcs.training.checkpoints import disk_is_full
from mmgcs.training.data import Labelled, ResumableLoader, fingerprint, read_labelled
from mmgcs.training.distill import member_answers, save_answers, teacher_answers
from mmgcs.training.finetune import read_own, train_head
from mmgcs.training.finish import finish_branch
from mmgcs.training.fuse import assemble
from mmgcs.training.job import Log, Run, claimed
from mmgcs.training.losses import make_loss
from mmgcs.training.module import BranchModule
from mmgcs.training.processes import check_devices, first_goes_first, followers, meet, rank, world_size
from mmgcs.training.recipe import BranchRecipe, Recipe
from mmgcs.training.stage import Watch, fit

RUN = "run.json"
"""What a run is of, in its folder."""


@dataclass(frozen=True)
class Learned:
    """A trained branch at its best weights.

    Attributes:
        module: the encoder, on the CPU.
        head: weight (genres, width) and bias (genres,) of the linear layer that speaks as the target source.
        rows: the films it learned from.
        valid: the films it was chosen on.
        score: macro average precision on those.
    """

    module: nn.Module
    head: tuple[Tensor, Tensor]
    rows: NDArray[np.int64]
    valid: NDArray[np.int64]
    score: float


def train(
    recipe: Recipe,
    data: Path,
    posters: Path | None,
    out: Path,
    *,
    resume: bool = False,
    command: str = "",
    log: Log = print,
    devices: int = 1,
    progress: bool = True,
) -> Bundle:
    """Train what a recipe says and write the bundle to `out`/bundle.

    Args:
        recipe: what to make.
        data: the table of films with genres and splits.
        posters: the folder its posters lie in.
        out: the run's folder; new, or with `resume` one that an earlier call left.
        resume: go on where the earlier call stopped.
        command: the command line, recorded in the model card.
        log: called with one line a step.
        devices: processes (CPU) or GPUs to train on; they share each batch, and the model is the same up to rounding
            and what is random.
        progress: show progress bars.

    Raises:
        UsageError: `out` exists and `resume` is not given, or the run was made with another recipe or data.
        MmgcsError: training failed; what was reached is kept.
    """
    check_recipe(recipe)
    sizes = {f"{name}.training.batch_size": part.training.batch_size for name, part in recipe.branches.items()}
    check_devices(devices, sizes)
    with _clear_ends(out):
        if recipe.head is not None:
            own = read_own(data, posters, recipe.genre_list())
            with claimed(out, {"recipe": recipe.model_dump(mode="json"), "data": own.fingerprint}, resume):
                return train_head(Run(recipe, own, out, command, log, devices, progress), recipe.head)
        labelled = read_labelled(data, posters, recipe.genre_list(), recipe.target_source, recipe.sources())
        with claimed(out, {"recipe": recipe.model_dump(mode="json"), "data": labelled.fingerprint}, resume):
            run = Run(recipe, labelled, out, command, log, devices, progress)
            holdout = choose_holdout(run)
            with followers(devices, _follow, (recipe, data, posters, out)):
                for name, branch in recipe.branches.items():
                    train_branch(run, name, branch, holdout)
            return assemble(run, holdout)


def _follow(recipe: Recipe, data: Path, posters: Path | None, out: Path) -> None:
    """What the other processes do: learn every branch beside the first one, and leave the rest to it."""
    labelled = read_labelled(data, posters, recipe.genre_list(), recipe.target_source, recipe.sources())
    run = Run(recipe, labelled, out, "", lambda line: None, world_size(), progress=False)
    holdout = choose_holdout(run)
    for name, branch in recipe.branches.items():
        train_branch(run, name, branch, holdout)


@contextlib.contextmanager
def _clear_ends(out: Path) -> Iterator[None]:
    told = threading.excepthook
    # TensorBoard writes in a thread of its own, which would show a stack where one line is enough.
    threading.excepthook = lambda raised: None if disk_is_full(raised.exc_value) else told(raised)
    try:
        yield
    except UsageError:
        # A call that was wrong leaves no claim on the folder; the same call, mended, must not need --resume.
        if out.is_dir() and [item.name for item in out.iterdir()] == [RUN]:
            (out / RUN).unlink()
        raise
    except Exception as error:
        if disk_is_full(error):
            raise MmgcsError(
                f"the disk of {out} is full; the last good checkpoint is kept: free space and go on with --resume"
            ) from error
        raise
    finally:
        threading.excepthook = told


def choose_holdout(run: Run) -> NDArray[np.int64]:
    """The training films that the branches do not see: of the target source, with every input."""
    if run.recipe.fusion is None:
        return np.zeros(0, dtype=np.int64)
    data = run.data
    both = np.intersect1d(data.rows("train", "plot"), data.rows("train", "poster"))
    count = int(len(both) * run.recipe.fusion.holdout)
    if count < 2:
        raise UsageError("the fusion needs training films with both plot and poster; this data has too few")
    target = both[data.source[both] == 0]
    pool = target if len(target) >= count else both
    chosen: NDArray[np.int64] = np.sort(np.random.default_rng(run.recipe.seed).choice(pool, count, replace=False))
    return chosen


def make_encoder(branch: BranchRecipe) -> nn.Module:
    """The encoder that a recipe names. Raises UsageError for an unknown name or setting."""
    try:
        return ENCODERS[branch.encoder.kind](**branch.encoder.options)
    except TypeError as error:
        raise UsageError(f"encoder {branch.encoder.kind}: {error}") from error


def train_branch(run: Run, name: str, branch: BranchRecipe, holdout: NDArray[np.int64]) -> None:
    """Train one encoder with its head, or several, and export their graph, unless an earlier call did."""
    folder = run.folder / name
    if (folder / "branch.json").is_file():
        run.log(f"{name}: trained already")
        return
    if branch.members > 1:
        learned = learn_members(run, name, branch, holdout)
    else:
        learned = learn_branch(run, name, branch, holdout)
    if rank() > 0:
        return
    state = {key: value.contiguous() for key, value in learned.module.state_dict().items()}
    save_file(state, folder / "encoder.safetensors")
    finish_branch(run, name, branch, learned.module, learned.head, learned.rows, learned.valid, learned.score)
    for cache in folder.glob("cache-*"):
        shutil.rmtree(cache, ignore_errors=True)


def learn_branch(
    run: Run,
    name: str,
    branch: BranchRecipe,
    holdout: NDArray[np.int64],
    watch: Watch | None = None,
    *,
    member: int = 0,
    taught_by: Path | None = None,
    answers: Path | None = None,
) -> Learned:
    """Train one encoder with its head, going on from a checkpoint where there is one.

    Args:
        run: the training.
        name: "plot" or "poster".
        branch: its part of the recipe.
        holdout: rows of films that it must not see.
        watch: called with each score on `valid`.
        member: its number among the branch's members, from 0.
        taught_by: a file of soft targets (`training.distill`) to learn from beside the labels.
        answers: where to leave its own, for the next member.
    """
    folder = run.folder / name
    seed = run.recipe.seed + member
    lightning.seed_everything(seed, verbose=False)
    module = make_encoder(branch)
    encoder: Encoder = module  # type: ignore[assignment]
    data, settings = run.data, branch.training
    rows = np.setdiff1d(data.rows("train", name), holdout)
    valid = data.rows("valid", name)
    if not len(rows) or not len(valid):
        raise UsageError(f"the data has {len(rows)} train and {len(valid)} valid films with a {name}; both are needed")
    run.log(f"{name}: {len(rows):,} films to learn from, {len(valid):,} to choose on")
    fit_words(encoder, data, rows)
    key = fingerprint([data.fingerprint, branch.encoder, branch.views, branch.augment, rows[:50], len(rows)])
    with first_goes_first():
        branch_data = BranchData(
            encoder,
            data,
            np.concatenate([rows, valid]),
            branch.views,
            branch.source_weights,
            (run.caches or folder) / f"cache-{key}",
            cache=settings.cache,
            augment=Augmenter(branch.augment, name),
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            progress=run.progress,
        )
        if branch.distill and branch.distill.teacher and member == 0:
            taught_by = folder / "teacher.npy"
            if not taught_by.is_file():
                run.log(f"{name}: asking the teacher")
                save_answers(taught_by, teacher_answers(branch.distill.teacher, data, rows, name))
    if taught_by is not None:
        branch_data.soft = np.load(taught_by)
    if branch_data.unreadable and rank() == 0:
        write_json(folder / "unreadable.json", branch_data.unreadable)
        run.log(f"{name}: {len(branch_data.unreadable)} could not be read; see {folder / 'unreadable.json'}")
    rows, valid = np.intersect1d(rows, branch_data.rows), np.intersect1d(valid, branch_data.rows)
    if not len(rows) or not len(valid):
        raise UsageError(f"the data has {len(rows)} train and {len(valid)} valid films whose {name} can be read")
    head = SourceHead(encoder.width, len(data.genres), len(data.sources), 0)
    positives = torch.from_numpy(data.shares(rows)).clamp(1e-3, 1 - 1e-3)
    with torch.no_grad():
        head.common.bias.copy_(torch.logit(positives))
    loss = make_loss(settings.loss.kind, settings.loss.options, positives)
    learner = BranchModule(module, head, settings, loss, branch.distill.share if branch.distill else 0.0)
    score = fit(
        learner,
        ResumableLoader(
            branch_data, rows, settings.batch_size, seed, shuffle=True, rank=rank(), world_size=world_size()
        ),
        ResumableLoader(branch_data, valid, 64, seed, shuffle=False),
        settings,
        run.recipe.model_copy(update={"seed": seed}),
        member_folder(folder, member) if branch.members > 1 else folder,
        progress=run.progress,
        watch=watch,
    )
    run.log(f"{name}: macro average precision on valid {score:.4f}")
    learner.eval()
    if answers is not None and rank() == 0:
        save_answers(answers, member_answers(learner.cpu(), branch_data, rows))
    return Learned(module.cpu(), head.cpu().target_linear(), rows, valid, score)


def learn_members(run: Run, name: str, branch: BranchRecipe, holdout: NDArray[np.int64]) -> Learned:
    """Train a branch's members one after the other and join them; those that an earlier call finished are kept.

    With `distill`, each after the first learns from what the one before it says.
    """
    folder = run.folder / name
    members: list[Learned] = []
    answers: Path | None = None
    for number in range(branch.members):
        here = member_folder(folder, number)
        finished = (here / "learned.json").is_file()
        taught_by, answers = answers, here / "answers.npy" if branch.distill else None
        meet()  # nobody goes on to the next member before this one's answers are written
        if finished:
            members.append(_load_member(run, branch, here))
            continue
        run.log(f"{name}: member {number + 1} of {branch.members}")
        learned = learn_branch(run, name, branch, holdout, member=number, taught_by=taught_by, answers=answers)
        if rank() == 0:
            _save_member(learned, here)
        members.append(learned)
    first, last = members[0], members[-1]
    module = MemberEncoder([member.module for member in members])
    return Learned(module, join_heads([member.head for member in members]), first.rows, first.valid, last.score)


def member_folder(folder: Path, number: int) -> Path:
    """Where a member's training is kept."""
    return folder / f"member-{number + 1}"


def _save_member(learned: Learned, folder: Path) -> None:
    state = {f"encoder.{key}": value.contiguous() for key, value in learned.module.state_dict().items()}
    weight, bias = (value.contiguous() for value in learned.head)
    save_file({**state, "head.weight": weight, "head.bias": bias}, folder / "learned.safetensors")
    rows = {"rows": learned.rows.tolist(), "valid": learned.valid.tolist()}
    write_json(folder / "learned.json", {"valid_map": learned.score, **rows})


def _load_member(run: Run, branch: BranchRecipe, folder: Path) -> Learned:
    found = json.loads((folder / "learned.json").read_text(encoding="utf-8"))
    rows, valid = np.array(found["rows"], dtype=np.int64), np.array(found["valid"], dtype=np.int64)
    state = load_file(folder / "learned.safetensors")
    head = state.pop("head.weight"), state.pop("head.bias")
    module = make_encoder(branch)
    fit_words(module, run.data, rows)  # type: ignore[arg-type]
    module.load_state_dict({key.removeprefix("encoder."): value for key, value in state.items()})
    return Learned(module.eval(), head, rows, valid, float(found["valid_map"]))


def fit_words(encoder: Encoder, data: Labelled, rows: NDArray[np.int64]) -> None:
    """Let an encoder that has a vocabulary learn it, from films to learn from, never from those to choose on."""
    if hasattr(encoder, "fit"):
        preprocessor = encoder.preprocessor()
        assert isinstance(preprocessor, PlotTokens)
        encoder.fit([preprocessor.text(data.films[row]) for row in rows])
