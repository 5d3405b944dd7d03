"""The recipe: everything that decides what a training makes, typed, in one YAML file, read in one place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmgcs.errors import UsageError
from mmgcs.genres import LABEL_SETS
from mmgcs.labels import LABEL_SOURCES, LabelSource
from mmgcs.wording import refusal

_PLACES = (Path("recipes"), Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")
"""Where recipes are found by name: the current folder's, a wheel's, a clone's."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Loss(_Part):
    """What a wrong probability costs."""

    kind: str = "bce"
    """A name in `mmgcs.training.losses.LOSSES`."""
    options: dict[str, Any] = {}
    """Its settings."""


class Component(_Part):
    """A model by its registered name, with its settings."""

    kind: str
    """A name in `mmgcs.models.ENCODERS` or `FUSIONS`."""
    options: dict[str, Any] = {}
    """Arguments of its constructor."""


class Optimization(_Part):
    """How one stage is fitted."""

    epochs: Annotated[int, Field(ge=0, le=1000)] = 3
    """Passes over the training films at most."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Films a step."""
    lr: Annotated[float, Field(gt=0.0)] = 1e-4
    """Highest learning rate of the deepest layers."""
    head_lr: Annotated[float, Field(gt=0.0)] = 1e-3
    """Highest learning rate of the head."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """Loshchilov & Hutter 2019 (decoupled weight decay), or Kingma & Ba 2015."""
    schedule: Literal["linear", "plateau"] = "linear"
    """How the learning rate changes: it rises and falls linearly, or is divided by ten after two epochs in which
    `valid` did not get better."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Factor on the learning rate for each layer further from the head."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """Weight decay of matrices; decoupled with AdamW."""
    source_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Weight decay of each label source's own correction of the head."""
    warmup: Share = 0.06
    """Share of the steps in which the learning rate rises; it falls linearly to nought after."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest norm of the gradient."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Looks at `valid` without a better macro average precision after which the stage stops."""
    validations: Annotated[int, Field(ge=1)] = 1
    """Looks at `valid` in each epoch."""
    mixup: Annotated[float, Field(ge=0.0)] = 0.0
    """Beta parameter of mixup on the hidden values (Verma et al. 2019, Manifold Mixup); 0 is off."""
    cutmix: Annotated[float, Field(ge=0.0)] = 0.0
    """Beta parameter of CutMix on the posters' feature maps (Yun et al. 2019); 0 is off."""
    loss: Loss = Loss()
    """The loss."""
    cache: bool = True
    """Compute the frozen half of the encoder once and keep it on disk."""


class Distillation(_Part):
    """What a model learns from another one's answers, beside the labels."""

    teacher: str | None = None
    """A finished bundle's folder, or "default" for the one that is shipped. Without one, each member after the first
    learns from the one before it."""
    share: Share = 0.5
    """Share of the loss that the teacher's answers make up."""


class BranchRecipe(_Part):
    """One encoder and how it is trained."""

    encoder: Component
    """The encoder."""
    training: Optimization = Optimization()
    """How it is trained."""
    source_weights: dict[str, float] = {}
    """What a film counts, by the source of its labels; 1 where not named."""
    views: Annotated[int, Field(ge=1, le=8)] = 1
    """Versions of each film that training alternates between: plots with and without title, posters as they are and
    mirrored, then shifted."""
    members: Annotated[int, Field(ge=1, le=8)] = 1
    """Encoders trained one after the other, each from a seed of its own; the bundle holds them all, on one frozen half,
    and averages what they say."""
    distill: Distillation | None = None
    """Learn from a teacher's answers too."""
    augment: list[Component] = []
    """Random changes of plots or posters, by name in `mmgcs.training.augment`. Fresh for every batch with
    `training.cache: false`; with a cached half, one for each view after the first."""
    token_bag: bool = False
    """Put a linear model of TF-IDF weights of the tokens beside the trained encoder of plots (`training.bag`)."""
    int8: bool = True
    """Quantise the graph."""
    int8_may_cost: Annotated[float, Field(ge=0.0)] = 0.3
    """Points of macro-F1 on `valid` that quantising may cost; the float graph is kept where it costs more."""


class FusionRecipe(_Part):
    """How the branches are brought together."""

    model: Component = Component(kind="gated")
    """The fusion."""
    training: Optimization = Optimization(epochs=60, batch_size=64, lr=1e-3, weight_decay=0.1, patience=12)
    """How it is trained, on features that the finished branches make."""
    holdout: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.12
    """Share of the training films with every input that the branches do not see, so that the fusion learns from
    features as they are on new films. It trusts a branch too much that has learned its films by heart."""
    drop: Share = 0.3
    """Probability with which training hides one of a film's inputs."""


class HeadRecipe(_Part):
    """New heads on the frozen encoders of a finished bundle."""

    bundle: str = "default"
    """The bundle's folder, or "default" for the one that is shipped."""
    folds: Annotated[int, Field(ge=2, le=20)] = 4
    """Parts that the films are cut into; each is predicted by heads that were fitted on the others."""
    strengths: Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=1)] = [3, 10, 30, 100, 300, 1000, 3000]
    """How strongly weights may be pulled to nought; the one with the best out-of-fold predictions is taken."""


class SearchRange(_Part):
    """What `mmgcs tune` draws one setting from: `choices`, or `low` to `high`."""

    choices: list[Any] | None = None
    """The values."""
    low: float | None = None
    """The least value."""
    high: float | None = None
    """The greatest value."""
    log: bool = False
    """Draw evenly in the logarithm."""
    whole: bool = False
    """Whole numbers only."""

    @model_validator(mode="before")
    @classmethod
    def _list_of_choices(cls, value: Any) -> Any:
        """A list stands for its choices."""
        return {"choices": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check(self) -> SearchRange:
        ranged = self.low is not None and self.high is not None
        if ranged == (self.choices is not None) or self.choices == []:
            raise ValueError("give either `choices` or both `low` and `high`")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"`low` is {self.low}, above `high`, {self.high}")
        if self.log and (self.low is None or self.low <= 0):
            raise ValueError("`log` needs a `low` above 0")
        return self


class Recipe(_Part):
    """Everything that decides what a training makes."""

    name: str
    """The bundle's name."""
    genres: Literal["default", "ten", "data"] | list[str] = "default"
    """The eighteen default genres, the original's ten, all genres in the data, or a list."""
    label_sources: dict[str, LabelSource] = {}
    """Further label sources, or other descriptions of known ones, by the name in the data's `labels` column."""
    target_source: str | None = None
    """The label source whose words the model speaks; the commonest of `valid` where not given."""
    seed: int = 7
    """Seed of everything random."""
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = "auto"
    """Numbers the training computes with; "auto" is mixed where a GPU or the processor computes faster so
    and 32 bit elsewhere."""
    checkpoint_steps: Annotated[int, Field(ge=1)] = 200
    """Steps between checkpoints, from which --resume goes on."""
    plot: BranchRecipe | None = None
    """The encoder of plots."""
    poster: BranchRecipe | None = None
    """The encoder of posters."""
    fusion: FusionRecipe | None = None
    """How both are brought together; needed where there are two."""
    head: HeadRecipe | None = None
    """Train only new heads, on the encoders of a finished bundle; instead of `plot`, `poster` and `fusion`."""
    coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Share of `valid` on which the model shall call itself sure."""

    search: dict[str, SearchRange] = {}
    """Settings that `mmgcs tune` tries, by their place, such as "plot.training.lr"; training does not read it."""

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if isinstance(self.genres, list) and len(set(self.genres)) < max(2, len(self.genres)):
            raise ValueError("genres must name at least two, each once")
        if self.poster is not None and self.poster.token_bag:
            raise ValueError("poster.token_bag: only plots have tokens; leave it out")
        if self.head is not None and (self.plot or self.poster or self.fusion):
            raise ValueError("has `head` beside `plot`, `poster` or `fusion`; the encoders of a head are finished")
        if self.plot is None and self.poster is None and self.head is None:
            raise ValueError("names neither `plot` nor `poster`; give at least one")
        if self.plot is not None and self.poster is not None and self.fusion is None:
            raise ValueError("names `plot` and `poster` but no `fusion`; add `fusion: {}`")
        for name, branch in self.branches.items():
            if branch.training.cutmix and name == "plot":
                raise ValueError("plot.training.cutmix: only posters can be cut and pasted; use mixup")
            if branch.distill and not branch.distill.teacher and branch.members < 2:
                raise ValueError(f"{name}.distill has no teacher: name one, or give {name}.members 2 or more")
            if branch.training.cutmix and branch.training.mixup:
                raise ValueError(f"{name}.training has both mixup and cutmix; give one")
        if self.fusion is not None and (self.plot is None or self.poster is None):
            raise ValueError("has a `fusion` of one input; name both `plot` and `poster` or leave `fusion` out")
        return self

    @property
    def branches(self) -> dict[str, BranchRecipe]:
        """The branches that the recipe has, "plot" first."""
        both = {"plot": self.plot, "poster": self.poster}
        return {name: branch for name, branch in both.items() if branch is not None}

    def sources(self) -> dict[str, LabelSource]:
        """The label sources that come with mmgcs, and the recipe's own."""
        return {**LABEL_SOURCES, **self.label_sources}

    def genre_list(self) -> tuple[str, ...] | None:
        """The genres to learn; None for all that the data has."""
        if isinstance(self.genres, str):
            return None if self.genres == "data" else LABEL_SETS[self.genres]
        return tuple(self.genres)


PARTS = tuple(
    name
    for name, setting in Recipe.model_fields.items()
    if setting.default is None
    and any(isinstance(kind, type) and issubclass(kind, _Part) for kind in get_args(setting.annotation))
)
"""The groups of settings that a recipe may lack."""


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe given by its path, or by the name of one that comes with mmgcs.

    Raises:
        UsageError: there is no such file and no such name; the known names are listed.
    """
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    known = {file.stem: file for place in reversed(_PLACES) for file in place.glob("*.yaml")}
    if str(name) not in known:
        raise UsageError(f"there is no recipe {str(name)!r}; known: {', '.join(sorted(known))}; or give a .yaml file")
    return known[str(name)]


def read_recipe(name: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        name: as in `find_recipe`.
        overrides: settings such as "plot.training.epochs=1", read as YAML.

    Raises:
        UsageError: the file does not exist, is not YAML, or has an unknown key or an impossible value.
    """
    path = find_recipe(name)
    try:
        value = _yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} is not a recipe: it must be a YAML mapping")
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: give KEY=VALUE, such as plot.training.epochs=1")
        try:
            _put(value, key, _yaml(text))
        except ValueError:
            raise UsageError(f"--set {override}: {text!r} is not YAML") from None
    return _validated(value, f"{path}: ")


def change_recipe(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with other values at the places that `settings` names, such as "plot.training.lr".

    Raises:
        UsageError: there is no such place, or it cannot have the value.
    """
    value = recipe.model_dump(mode="json", exclude_unset=True)
    for place, setting in settings.items():
        _put(value, place, setting)
    return _validated(value, "")


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:  # its dates and numbers raise ValueError themselves
        raise ValueError(str(error)) from error


def _put(value: dict[str, Any], key: str, setting: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if value.get(parent) is None:
            value[parent] = {}
        value = value[parent]
        if not isinstance(value, dict):
            raise UsageError(f"{key}: {parent} is not a group of settings")
    value[last] = setting


def _validated(value: dict[str, Any], where_from: str) -> Recipe:
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        where, what = refusal(error, Recipe, "setting")
        raise UsageError(f"{where_from}{where + ': ' if where else ''}{what}") from None
