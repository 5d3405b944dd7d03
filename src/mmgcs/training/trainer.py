"""Fit one stage with Lightning: checkpoints, early stopping, loggers, multiple devices."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import math
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as lightning
import torch
from pytorch_lightning import loggers
from pytorch_lightning.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EMAWeightAveraging,
    LambdaCallback,
    ModelCheckpoint,
)
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import atomic_path, atomic_writer
from mmgcs.progress import INTERVAL, progress_bars
from mmgcs.training.module import NotFiniteError
from mmgcs.training.recipe import Optimization
from mmgcs.training.rundir import Run

BEST, LAST = "best.ckpt", "last.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):  # type: ignore[misc]  # Lightning is untyped
    """Write a checkpoint next to the old one and rename it, so that the old one survives a kill or a full disk.

    Lightning moves a file from the system's temporary folder, which is a plain copy if that is another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`; on any error the old file stays."""
        buffer = io.BytesIO()  # writing to the file, torch would hide that the disk is full
        torch.save(checkpoint, buffer)
        with atomic_writer(Path(path), "wb") as handle:
            handle.write(buffer.getbuffer())


class TrainingProgress(Callback):  # type: ignore[misc]  # Lightning is untyped
    """Show a fit's progress, its loss and last score on `valid`: a bar in a terminal, a line a minute in a file.

    plot: 35% (812 of 2,345), 4.1 a second, loss 0.2134, score 0.6120, 6 minutes left
    """

    def __init__(self, stage: str, enabled: bool) -> None:
        self._stage = stage
        self._enabled = enabled
        self._values: dict[str, float] = {}
        self._exit = contextlib.ExitStack()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start at the step that a resumed run has reached."""
        bars = progress_bars(lines=INTERVAL, enabled=self._enabled and trainer.is_global_zero)
        self._update, self._total = self._exit.enter_context(bars), int(trainer.estimated_stepping_batches)
        self._show(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *batch: Any) -> None:
        """Count the batch."""
        self._show(trainer, loss=float(outputs["loss"]))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the score."""
        self._show(trainer, score=float(trainer.callback_metrics["valid_map"]))

    def _show(self, trainer: lightning.Trainer, **values: float) -> None:
        self._values |= values
        note = ", ".join(f"{name} {value:.4f}" for name, value in self._values.items())
        self._update(self._stage, trainer.global_step, self._total, note)

    def on_train_end(self, *_: Any) -> None:
        """Remove the bar."""
        self._exit.close()

    on_exception = on_train_end


class LastCheckpoint(Checkpoint):  # type: ignore[misc]  # Lightning is untyped
    """Write the checkpoint that a resumed training continues from: every n steps, and after each validation.

    A step that is followed by a validation is saved after it: Lightning does not repeat a validation that a checkpoint
    lacks, so a resumed training could end with other best weights.
    """

    def __init__(self, path: Path, every: int) -> None:
        self._path = path
        self._every = every

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Save after every n-th step."""
        if trainer.global_step % self._every == 0 and (index + 1) % trainer.val_check_batch:
            trainer.save_checkpoint(self._path)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save after each validation."""
        trainer.save_checkpoint(self._path)


def fit(
    module: lightning.LightningModule,
    train_batches: Any,
    valid_batches: Any,
    settings: Optimization,
    run: Run,
    stage: str,
    *,
    devices: int = 1,
    watch: Callable[[float], None] | None = None,
) -> float:
    """Fit a module and load its best weights. Continue from the stage's checkpoint if there is one.

    Args:
        module: the module to train.
        train_batches, valid_batches: its batches; `train_batches.skip_to(step)` is called to resume.
        settings: the stage's part of the recipe.
        run: the training.
        stage: its name, for its folder, progress and loggers.
        devices: processes (CPU) or GPUs.
        watch: called with the score of each validation; an exception that it raises ends the stage.

    Returns:
        The best macro average precision on `valid`.

    Raises:
        MmgcsError: the loss is not finite, a process died, or the logger failed; the last good checkpoint is kept.
        KeyboardInterrupt: the user pressed Ctrl-C; the last checkpoint is kept.
    """
    folder = run.folder / stage
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    best = ModelCheckpoint(
        folder,
        filename="best",
        monitor="valid_map",
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    callbacks = [
        EarlyStopping("valid_map", mode="max", patience=settings.patience, check_on_train_epoch_end=False),
        best,
        LastCheckpoint(last, run.recipe.checkpoint_steps),
        TrainingProgress(stage, run.progress),
    ]
    if watch is not None:
        callbacks.append(
            LambdaCallback(on_validation_end=lambda trainer, _: watch(float(trainer.callback_metrics["valid_map"])))
        )
    if settings.average:
        callbacks.append(EMAWeightAveraging(decay=settings.average))
    module.seed = run.recipe.seed
    checkpoint = last if last.is_file() else None
    if checkpoint:
        # Each step takes one batch. Lightning cannot resume in the middle of an iterable's epoch by itself.
        train_batches.skip_to(_step_of(last))
    with _contained_lightning(), explain_processes():
        trainer = lightning.Trainer(
            max_epochs=math.ceil(settings.epochs),
            limit_train_batches=max(1, int(settings.epochs * len(train_batches))) if settings.epochs < 1 else 1.0,
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            devices=devices,
            strategy="ddp_spawn" if devices > 1 else "auto",
            use_distributed_sampler=False,
            precision=run.recipe.precision if run.recipe.precision != "auto" else fastest_precision(module),
            callbacks=callbacks,
            plugins=[AtomicCheckpoints()],
            logger=_loggers(run.recipe.logger, run.recipe.name, stage, folder),
            gradient_clip_val=settings.clip,
            val_check_interval=1.0 / settings.validations,
            num_sanity_val_steps=0,
            log_every_n_steps=20,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        module.train()  # Lightning does not call it, and an encoder freezes its BatchNorm there
        try:
            trainer.fit(module, train_batches, valid_batches, ckpt_path=checkpoint, weights_only=True)
        except NotFiniteError as error:
            # The last checkpoint may hold the very weights that gave this loss.
            if last.is_file() and _step_of(last) >= error.step:
                shutil.copyfile(folder / BEST, last) if (folder / BEST).is_file() else last.unlink()
            raise
        except SystemExit:  # Lightning turns Ctrl-C into this
            raise KeyboardInterrupt from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] == run.recipe.logger:  # no account, or no server
                raise MmgcsError(f"logger {run.recipe.logger}: {error}") from error
            raise
        finally:
            if run.recipe.logger == "wandb":
                import wandb

                wandb.finish()  # otherwise Lightning logs the next stage to this run
        if trainer.interrupted:
            raise KeyboardInterrupt
    state = torch.load(folder / BEST, map_location="cpu", weights_only=True)
    module.cpu().load_state_dict(state["state_dict"])
    draw_curves(folder)
    return float(state["callbacks"][best.state_key]["best_model_score"])


def _step_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def _loggers(kind: str, name: str, stage: str, folder: Path) -> list[Any]:
    """Return the logger that a recipe names, and the CSV logger, from which curves are drawn."""
    table = loggers.CSVLogger(folder, name="curves", flush_logs_every_n_steps=20)
    if kind == "tensorboard":
        return [table, loggers.TensorBoardLogger(folder, name="tensorboard", version="")]
    if kind == "mlflow":
        store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent.resolve()}/mlflow.db"
        return [table, loggers.MLFlowLogger(experiment_name=name, run_name=stage, tracking_uri=store)]
    if kind == "wandb":
        return [table, loggers.WandbLogger(project=name, name=stage, save_dir=folder)]
    return [table]


def check_devices(devices: int, batch_sizes: Mapping[str, int]) -> None:
    """Raise UsageError if there are fewer GPUs, or fewer films in a batch, than devices."""
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise UsageError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs; give at most that")
    for key, size in batch_sizes.items():
        if size < devices:
            raise UsageError(
                f"--devices {devices}: {key} is {size}, so some devices would have no film; give fewer devices"
            )


def fastest_precision(module: torch.nn.Module) -> Literal["32", "16-mixed", "bf16-mixed"]:
    """Return mixed precision if the device computes this module faster with it, otherwise 32 bits.

    A processor with bfloat16 instructions multiplies matrices about twice as fast with them, but convolves more slowly.
    An encoder's `matrices` tells which of the two is most of its work.
    """
    if torch.cuda.is_available():
        # From Ampere on, GPUs compute in bfloat16 as fast as in float16, and it needs no scaling of the loss.
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    fast = can.get("avx512_bf16") or can.get("amx_bf16")
    return "bf16-mixed" if fast and getattr(getattr(module, "encoder", None), "matrices", False) else "32"


@contextlib.contextmanager
def explain_processes() -> Iterator[None]:
    """Report a training process that failed or was killed in one line."""
    try:
        yield
    except ProcessExitedException as error:
        raise MmgcsError(
            f"a training process ended ({error.signal_name or error.exit_code}); the last good checkpoint is kept: "
            "resume with --resume"
        ) from error
    except ProcessRaisedException as error:
        raise MmgcsError(str(error).strip().splitlines()[-1].partition(": ")[2]) from error


@contextlib.contextmanager
def _contained_lightning() -> Iterator[None]:
    """Silence Lightning's banners and advice, in its child processes too, and restore the Ctrl-C handler afterwards."""
    chatty = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels, environment = [logger.level for logger in chatty], os.environ.get("PYTHONWARNINGS")
    interrupt = signal.getsignal(signal.SIGINT)
    os.environ["PYTHONWARNINGS"] = "ignore"
    for logger in chatty:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (UserWarning, FutureWarning, DeprecationWarning):
                warnings.filterwarnings("ignore", category=category)
            yield
    finally:
        for logger, level in zip(chatty, levels, strict=True):
            logger.setLevel(level)
        os.environ.pop("PYTHONWARNINGS") if environment is None else os.environ.update(PYTHONWARNINGS=environment)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)


def read_curve(folder: Path, column: str) -> list[tuple[int, float]]:
    """Return the (step, value) pairs of a column of a stage's curves, by step; a resumed run has several files."""
    points: dict[int, float] = {}
    files = sorted((folder / "curves").glob("version_*/metrics.csv"), key=lambda file: file.stat().st_mtime)
    for metrics in files:
        with metrics.open(encoding="utf-8", newline="") as handle:
            points |= {int(row["step"]): float(row[column]) for row in csv.DictReader(handle) if row.get(column)}
    return sorted(points.items())


def draw_curves(folder: Path) -> None:
    """Draw the training loss and the validation score of a stage as curves.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    columns = {"train_loss": "training loss", "valid_map": "macro AP on valid"}
    for axis, (column, label) in zip(axes, columns.items(), strict=True):
        points = read_curve(folder, column)
        marker = "." if column == "valid_map" else ""
        axis.plot([step for step, _ in points], [value for _, value in points], marker=marker)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.3)
    with atomic_path(folder / "curves.png") as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)
