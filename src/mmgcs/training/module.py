"""The modules that Lightning trains: a branch with its head, or the fusion of finished branches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmgcs.errors import MmgcsError
from mmgcs.evaluation import macro_average_precision
from mmgcs.models import Encoder, SourceHead
from mmgcs.training.augment import cut_and_paste
from mmgcs.training.recipe import Optimization


def warmup_then_linear(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate's factor: it rises over the first share `warmup` of the steps, then decays to zero."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return max(0.0, (steps - step) / max(1.0, steps - rise))


class NotFiniteError(MmgcsError):
    """The loss or a score became infinite or NaN.

    Attributes:
        step: the number of updates so far.
    """

    def __init__(self, what: str, step: int) -> None:
        super().__init__(
            f"{what} at step {step}; the last good checkpoint is kept: lower the learning rate (lr, head_lr) in the "
            "recipe and train again"
        )
        self.step = step


class _Learner(lightning.LightningModule):  # type: ignore[misc]  # Lightning is untyped
    """The base of both modules: loss, optimizer with its schedule, macro average precision on `valid`."""

    def __init__(self, training: Optimization, loss: nn.Module) -> None:
        super().__init__()
        self.settings = training
        self.loss = loss
        self.seed = 0
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def check(self, loss: Tensor) -> Tensor:
        if not math.isfinite(float(loss.detach())):
            raise NotFiniteError(f"the loss became {float(loss.detach())}", self.global_step)
        return loss

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Seed dropout by the number of the step, so that a resumed training repeats it."""
        del batch, index
        torch.manual_seed(self.seed + 1_000_003 * self.global_step + 7_919 * self.global_rank)

    def optimizer(self, groups: list[dict[str, Any]]) -> dict[str, Any]:
        kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        optimizer = kinds[self.settings.optimizer](groups)
        if self.settings.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=2)
            # `scored` steps it: Lightning would do so only after it has saved the checkpoint of the validation.
            never = {"scheduler": plateau, "monitor": "valid_map", "frequency": sys.maxsize}
            return {"optimizer": optimizer, "lr_scheduler": never}
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_then_linear(step, steps, self.settings.warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def scored(self, score: float) -> None:
        """Log the score of a validation, and lower the learning rate if it stopped rising."""
        self.log("valid_map", score)
        if self.settings.schedule == "plateau":
            self.lr_schedulers().step(score)

    def collect(self, truth: Tensor, logits: Tensor, known: Tensor) -> None:
        self._seen.append((truth.cpu(), logits.float().cpu(), known.cpu()))

    def collected(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        truth, scores, known = (torch.cat(part).numpy() for part in zip(*self._seen, strict=True))
        self._seen.clear()
        if not np.isfinite(scores).all():
            raise NotFiniteError("the scores on valid became NaN", self.global_step)
        return truth, scores, known.astype(bool)


class BranchModule(_Learner):
    """An encoder and its head. Batches are those of `BranchData`.

    Args:
        encoder, head: the modules to train.
        training: the recipe's settings.
        loss: turns logits and targets into the loss of each film and genre.
        distilled: the share of the loss that comes from soft targets.
    """

    def __init__(
        self, encoder: Encoder, head: SourceHead, training: Optimization, loss: nn.Module, distilled: float = 0.0
    ) -> None:
        super().__init__(training, loss)
        self.encoder = encoder
        self.head = head
        self.distilled = distilled

    def _stem(self, batch: Mapping[str, Any]) -> Tensor:
        hidden: Tensor = batch["hidden"] if "hidden" in batch else self.encoder.stem(batch["inputs"])
        return hidden

    def _logits(self, features: Tensor, source: Tensor) -> Tensor:
        # The head is small and needs precision: it always computes in 32 bits.
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float(), source)
        return logits

    def target_logits(self, features: Tensor) -> Tensor:
        """Return logits (B, genres) for the target source from features (B, width)."""
        source = torch.full((len(features),), self.head.target, device=features.device)
        return self._logits(features, source)

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        """Return the weighted loss of a batch."""
        hidden = self._stem(batch)
        mixes = bool(self.settings.mixup or self.settings.cutmix)
        if mixes and hidden.is_floating_point():
            hidden, batch = self._mix(hidden, batch, index)
            mixes = False
        features, source = self.encoder.tail(hidden, batch["inputs"]), batch["source"]
        if mixes:  # this encoder has no hidden values, only token ids
            features, batch = self._mix(features, batch, index)
        # Unknown labels cost nothing, so they cannot pull a probability down.
        losses = (self.loss(self._logits(features, source), batch["truth"]) * batch["known"]).mean(1)  # (B,)
        if "soft" in batch:
            soft, logits = batch["soft"], self.target_logits(features)
            cost = nn.functional.binary_cross_entropy_with_logits(logits, soft.nan_to_num(0.5), reduction="none")
            # A film that the teacher could not read has only its labels.
            share = self.distilled * torch.isfinite(soft).all(1)
            losses = (1.0 - share) * losses + share * cost.mean(1)
        loss = self.check((losses * batch["weight"]).mean())
        self.log("train_loss", loss, on_step=True, on_epoch=False)
        return loss

    def _mix(self, values: Tensor, batch: dict[str, Any], index: int) -> tuple[Tensor, dict[str, Any]]:
        """Mix each film's values with those of another film in the batch, and its labels by the same share."""
        random = np.random.default_rng((self.global_step, index))
        strength = self.settings.mixup or self.settings.cutmix
        share = float(random.beta(strength, strength))
        share = max(share, 1.0 - share)

        def blend(value: Tensor) -> Tensor:
            return share * value + (1.0 - share) * value.flip(0)

        if self.settings.cutmix:
            mixed, share = cut_and_paste(values, share, random)
        else:
            mixed = blend(values)
        # Weight each film's known labels by its share, as if the two losses were added.
        known = blend(batch["known"])
        labels = {"known": known, "truth": blend(batch["truth"] * batch["known"]) / known.clamp_min(1e-6)}
        if "soft" in batch:
            labels["soft"] = blend(batch["soft"])
        return mixed, {**batch, **labels}

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        """Collect logits for the target source."""
        del index
        features = self.encoder.tail(self._stem(batch), batch["inputs"])
        self.collect(batch["truth"], self.target_logits(features), batch["known"])

    def on_validation_epoch_end(self) -> None:
        """Log the macro average precision."""
        self.scored(macro_average_precision(*self.collected()))

    def configure_optimizers(self) -> Any:
        """Return the recipe's optimizer; the head has its own rate, and the sources' corrections their own decay."""
        settings = self.settings
        groups = self.encoder.parameter_groups(settings.lr, settings.layer_decay, settings.weight_decay)
        groups.append({"params": list(self.head.common.parameters()), "lr": settings.head_lr, "weight_decay": 0.0})
        own = [self.head.weight, self.head.bias]
        groups.append({"params": own, "lr": settings.head_lr, "weight_decay": settings.source_decay})
        return self.optimizer(groups)


class FusionModule(_Learner):
    """A fusion of the finished branches' features; training hides inputs at random."""

    def __init__(self, fusion: nn.Module, training: Optimization, loss: nn.Module, drop: float) -> None:
        super().__init__(training, loss)
        self.fusion = fusion
        self.drop = drop

    def training_step(self, batch: Sequence[Tensor], index: int) -> Tensor:
        """Return the loss of a batch of (features…, present, truth, known); some films have one input hidden."""
        *features, present, truth, known = batch
        generator = torch.Generator().manual_seed(self.global_step)
        hide = torch.rand(len(truth), generator=generator) < self.drop
        which = torch.randint(present.shape[1], (len(truth),), generator=generator)
        present = present.clone()
        rows = torch.nonzero(hide & (present.sum(1).cpu() > 1)).squeeze(1)
        present[rows, which[rows]] = 0.0
        loss = self.check((self.loss(self.fusion(features, present), truth) * known).mean())
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], index: int) -> None:
        """Collect the logits of every combination of inputs, side by side."""
        *features, present, truth, known = batch
        conditions = [self.fusion(features, present * mask) for mask in input_masks(present.shape[1])]
        self.collect(truth, torch.stack(conditions, 1), known)

    def on_validation_epoch_end(self) -> None:
        """Log the mean macro average precision over the combinations of inputs."""
        truth, scores, known = self.collected()
        each = [macro_average_precision(truth, scores[:, index], known) for index in range(scores.shape[1])]
        self.scored(float(np.mean(each)))
        self.log("valid_map_all", each[-1])

    def configure_optimizers(self) -> Any:
        """Return AdamW; mixing weights and shifts start at good values and have no weight decay."""
        matrices = [p for n, p in self.fusion.named_parameters() if p.requires_grad and n.endswith("weight")]
        others = [p for n, p in self.fusion.named_parameters() if p.requires_grad and not n.endswith("weight")]
        settings = self.settings
        groups = [
            {"params": matrices, "lr": settings.lr, "weight_decay": settings.weight_decay},
            {"params": others, "lr": settings.head_lr, "weight_decay": 0.0},
        ]
        return self.optimizer([group for group in groups if group["params"]])


def input_masks(branches: int) -> list[Tensor]:
    """Return a mask (branches,) for each branch alone and, last, one for all branches."""
    masks = [torch.nn.functional.one_hot(torch.tensor(index), branches).float() for index in range(branches)]
    return [*masks, torch.ones(branches)] if branches > 1 else masks
