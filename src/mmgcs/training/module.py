"""What Lightning trains: a branch with its head, or the fusion of finished branches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.models import Encoder, SourceHead
from mmgcs.training.augment import cut_and_paste
from mmgcs.training.losses import Loss
from mmgcs.training.recipe import Optimization

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def macro_average_precision(truth: NDArray[Any], scores: NDArray[Any]) -> float:
    """The mean over genres of average precision; genres without a film are left out."""
    there = truth.any(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(average_precision_score(truth[:, there], scores[:, there], average="macro"))


def warmup_then_linear(step: int, steps: int, warmup: float) -> float:
    """The factor on the learning rate: it rises in the first `warmup` share of the steps and falls to nought after."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return max(0.0, (steps - step) / max(1.0, steps - rise))


class LossIsNoNumberError(MmgcsError):
    """The loss or a gradient became infinite or no number.

    Attributes:
        step: updates done before.
    """

    def __init__(self, what: str, step: int) -> None:
        super().__init__(
            f"{what} at step {step}; the last good checkpoint is kept: lower the learning rate (lr, head_lr) in the "
            "recipe and train again"
        )
        self.step = step


class _Learner(lightning.LightningModule):  # type: ignore[misc]  # Lightning is untyped
    """What both have in common: one loss, AdamW with warm-up and decay, macro average precision on `valid`."""

    def __init__(self, training: Optimization, loss: Loss) -> None:
        super().__init__()
        self.settings = training
        self.loss = loss
        self.seed = 0
        self._truth: list[Tensor] = []
        self._scores: list[Tensor] = []

    def check(self, loss: Tensor) -> Tensor:
        if not math.isfinite(float(loss.detach())):
            raise LossIsNoNumberError(f"the loss became {float(loss.detach())}", self.global_step)
        return loss

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Make what is random in a step (dropout) depend on the step alone, so that a resumed training repeats it."""
        del batch, index
        torch.manual_seed(self.seed + 1_000_003 * self.global_step + 7_919 * self.global_rank)

    def optimizer(self, groups: list[dict[str, Any]]) -> dict[str, Any]:
        optimizer = OPTIMIZERS[self.settings.optimizer](groups)
        if self.settings.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=2)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "valid_map"}}
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_then_linear(step, steps, self.settings.warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def score(self, truth: Tensor, logits: Tensor) -> None:
        self._truth.append(truth.cpu())
        self._scores.append(logits.float().cpu())

    def take_scores(self) -> tuple[NDArray[Any], NDArray[Any]]:
        truth, scores = torch.cat(self._truth).numpy(), torch.cat(self._scores).numpy()
        self._truth.clear()
        self._scores.clear()
        if not np.isfinite(scores).all():
            raise LossIsNoNumberError("the scores of valid became no numbers", self.global_step)
        return truth, scores


class BranchModule(_Learner):
    """An encoder and its head.

    Batches are those of `BranchData`.
    """

    def __init__(
        self, encoder: nn.Module, head: SourceHead, training: Optimization, loss: Loss, distilled: float = 0.0
    ) -> None:
        super().__init__(training, loss)
        self.encoder = encoder
        self.head = head
        self.distilled = distilled  # share of the loss that the batch's soft targets make up

    def features(self, batch: Mapping[str, Any]) -> Tensor:
        """Features (B, width) of a batch."""
        encoder: Encoder = self.encoder  # type: ignore[assignment]
        hidden = batch["hidden"] if "hidden" in batch else encoder.stem(batch["inputs"])
        return encoder.tail(hidden, batch["inputs"])

    def _answer(self, features: Tensor, source: Tensor) -> Tensor:
        # The head is small and its sums decide: it computes in 32 bits whatever the encoder does.
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float(), source)
        return logits

    def target_logits(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits (B, genres) in the words of the target source."""
        return self._answer(self.features(batch), torch.full_like(batch["source"], self.head.target))

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        """The weighted loss of a batch."""
        if self.settings.mixup or self.settings.cutmix:
            batch = self._mix(batch, index)
        features, source = self.features(batch), batch["source"]
        # Unknown labels cost nothing, so they cannot pull a probability down.
        losses = (self.loss(self._answer(features, source), batch["truth"]) * batch["known"]).mean(1)  # (B,)
        if "soft" in batch:
            said = self._answer(features, torch.full_like(source, self.head.target))
            soft = batch["soft"]
            there = torch.isfinite(soft)  # a film that the teacher could not read has its labels alone
            cost = nn.functional.binary_cross_entropy_with_logits(said, soft.nan_to_num(0.5), reduction="none")
            share = self.distilled * there.all(1)
            losses = (1.0 - share) * losses + share * cost.mean(1)
        loss = self.check((losses * batch["weight"]).mean())
        self.log("train_loss", loss, on_step=True, on_epoch=False, prog_bar=True)
        return loss

    def _mix(self, batch: dict[str, Any], index: int) -> dict[str, Any]:
        encoder: Encoder = self.encoder  # type: ignore[assignment]
        hidden = batch["hidden"] if "hidden" in batch else encoder.stem(batch["inputs"])
        if not hidden.is_floating_point():
            raise UsageError("mixup: the encoder has no hidden values between its layers to mix; leave it out")
        random = np.random.default_rng((self.global_step, index))
        strength = self.settings.mixup or self.settings.cutmix
        share = float(random.beta(strength, strength))
        share = max(share, 1.0 - share)
        if self.settings.cutmix:
            mixed, share = cut_and_paste(hidden, share, random)
        else:
            mixed = share * hidden + (1.0 - share) * hidden.flip(0)
        targets: dict[str, Tensor] = {name: batch[name] for name in ("truth", "known", "soft") if name in batch}
        both: dict[str, Any] = {name: share * value + (1.0 - share) * value.flip(0) for name, value in targets.items()}
        return {**batch, "hidden": mixed, **both}

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        """Collect logits in the words of the target source."""
        del index
        self.score(batch["truth"], self.target_logits(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the macro average precision."""
        truth, scores = self.take_scores()
        self.log("valid_map", macro_average_precision(truth, scores), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser; the head has its own rate, and each source's correction its own decay."""
        encoder: Encoder = self.encoder  # type: ignore[assignment]
        settings = self.settings
        groups = encoder.parameter_groups(settings.lr, settings.layer_decay, settings.weight_decay)
        groups.append({"params": list(self.head.common.parameters()), "lr": settings.head_lr, "weight_decay": 0.0})
        own = [self.head.weight, self.head.bias]
        groups.append({"params": own, "lr": settings.head_lr, "weight_decay": settings.source_decay})
        return self.optimizer(groups)


class FusionModule(_Learner):
    """A fusion over features that the finished branches made; training hides inputs at random."""

    def __init__(self, fusion: nn.Module, training: Optimization, loss: Loss, drop: float) -> None:
        super().__init__(training, loss)
        self.fusion = fusion
        self.drop = drop

    def training_step(self, batch: Sequence[Tensor], index: int) -> Tensor:
        """The loss of a batch of (features…, present, truth), one input hidden in a share of its films."""
        *features, present, truth = batch
        generator = torch.Generator().manual_seed(self.global_step)
        hide = torch.rand(len(truth), generator=generator) < self.drop
        which = torch.randint(present.shape[1], (len(truth),), generator=generator)
        present = present.clone()
        rows = torch.nonzero(hide & (present.sum(1).cpu() > 1)).squeeze(1)
        present[rows, which[rows]] = 0.0
        loss = self.check(self.loss(self.fusion(features, present), truth).mean())
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], index: int) -> None:
        """Collect the logits of every combination of inputs, side by side."""
        *features, present, truth = batch
        conditions = [self.fusion(features, present * mask) for mask in input_masks(present.shape[1])]
        self.score(truth, torch.stack(conditions, 1))

    def on_validation_epoch_end(self) -> None:
        """Log the mean macro average precision over the combinations of inputs."""
        truth, scores = self.take_scores()
        each = [macro_average_precision(truth, scores[:, index]) for index in range(scores.shape[1])]
        self.log("valid_map", float(np.mean(each)), prog_bar=True)
        self.log("valid_map_all", each[-1])

    def configure_optimizers(self) -> Any:
        """AdamW over what is trained; mixing weights and shifts start at a good place and are not decayed."""
        matrices = [p for n, p in self.fusion.named_parameters() if p.requires_grad and n.endswith("weight")]
        others = [p for n, p in self.fusion.named_parameters() if p.requires_grad and not n.endswith("weight")]
        settings = self.settings
        groups = [
            {"params": matrices, "lr": settings.lr, "weight_decay": settings.weight_decay},
            {"params": others, "lr": settings.head_lr, "weight_decay": 0.0},
        ]
        return self.optimizer([group for group in groups if group["params"]])


def input_masks(branches: int) -> list[Tensor]:
    """For each branch a mask (branches,) that leaves it alone, and last one that leaves all."""
    masks = [torch.nn.functional.one_hot(torch.tensor(index), branches).float() for index in range(branches)]
    return [*masks, torch.ones(branches)] if branches > 1 else masks
