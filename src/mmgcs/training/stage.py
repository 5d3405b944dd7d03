"""One stage of a training: Lightning's trainer with checkpoints, early stopping, curves and progress."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import nn

from mmgcs.training.checkpoints import BEST, LAST, AtomicCheckpoints, StepCheckpoints, forget_untried
from mmgcs.training.curves import Curves, draw_curves
from mmgcs.training.module import LossIsNoNumberError
from mmgcs.training.processes import rank, world_size
from mmgcs.training.recipe import Optimization, Recipe

Watch = Callable[[float], None]
"""Called with the score of each look at `valid`; what it raises ends the stage."""


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning's advice on data loaders and its banners are for authors of training scripts, not for users."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class _Watcher(Callback):  # type: ignore[misc]  # Lightning is untyped
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        self._watch(float(trainer.callback_metrics["valid_map"]))


def fit(
    module: lightning.LightningModule,
    train_batches: Any,
    valid_batches: Any,
    settings: Optimization,
    recipe: Recipe,
    folder: Path,
    *,
    progress: bool = True,
    watch: Watch | None = None,
) -> float:
    """Fit a module, going on from `folder`'s last checkpoint where it has one, and leave it at its best weights.

    Where several processes train together (`training.processes`), each calls this with its own batches.

    Returns:
        The best macro average precision on `valid`.

    Raises:
        MmgcsError: the loss is not finite; the last good checkpoint stays.
        KeyboardInterrupt: the user pressed Ctrl-C; the last checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    steps = StepCheckpoints(folder, recipe.checkpoint_steps)
    best = ModelCheckpoint(
        folder,
        filename="best",
        monitor="valid_map",
        mode="max",
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    stop = EarlyStopping("valid_map", mode="max", patience=settings.patience, check_on_train_epoch_end=False)
    callbacks: list[Any] = [stop, best, steps, *([_Watcher(watch)] if watch else [])]
    if progress:
        callbacks.append(RichProgressBar() if _is_terminal() else TQDMProgressBar(refresh_rate=100))
    on_gpu = torch.cuda.is_available()
    precision = recipe.precision if recipe.precision != "auto" else fastest_precision(module)
    module.seed = recipe.seed
    together = world_size() > 1
    last = folder / LAST
    if last.is_file():
        # Every step takes one batch. Lightning's own restoring of loaders was seen to begin the epoch anew.
        train_batches.go_to(int(torch.load(last, map_location="cpu", weights_only=True)["global_step"]))
    with quiet_lightning(), _own_interrupts():
        trainer = lightning.Trainer(
            max_epochs=settings.epochs,
            accelerator="gpu" if on_gpu else "cpu",
            devices=world_size(),
            strategy="ddp" if together else "auto",
            precision=precision,
            callbacks=callbacks,
            plugins=[AtomicCheckpoints(), *([LightningEnvironment()] if together else [])],
            logger=[
                Curves(folder / "curves" / "metrics.csv"),
                TensorBoardLogger(folder, name="tensorboard", version=""),
            ],
            gradient_clip_val=settings.clip,
            val_check_interval=1.0 / settings.validations,
            num_sanity_val_steps=0,
            log_every_n_steps=20,
            enable_model_summary=False,
            enable_progress_bar=progress,
        )
        try:
            trainer.fit(
                module, train_batches, valid_batches, ckpt_path=last if last.is_file() else None, weights_only=True
            )
        except LossIsNoNumberError as error:
            if rank() == 0:
                forget_untried(folder, error.step)
            raise
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        if trainer.interrupted:
            raise KeyboardInterrupt
        if rank() > 0:
            return float(best.best_model_score or 0.0)
        state = torch.load(folder / BEST, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    draw_curves(folder / "curves" / "metrics.csv", folder / "curves.png")
    return float(best.best_model_score or 0.0)


def fastest_precision(module: nn.Module) -> Literal["32", "16-mixed", "bf16-mixed"]:
    """Mixed precision where the device computes this module faster with it, 32 bit elsewhere.

    A processor with bfloat16 instructions multiplies matrices of it about twice as fast. Its convolutions, depthwise
    ones above all, become slower: so an encoder says of itself, by `matrices`, whether matrices are most of its work.
    """
    if torch.cuda.is_available():
        return "16-mixed"
    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    short = can.get("avx512_bf16") or can.get("amx_bf16")
    return "bf16-mixed" if short and getattr(getattr(module, "encoder", None), "matrices", False) else "32"


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Lightning leaves Ctrl-C switched off after one; the caller's handling is put back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_terminal() -> bool:
    import sys

    return sys.stderr.isatty() and sys.stdout.isatty()
