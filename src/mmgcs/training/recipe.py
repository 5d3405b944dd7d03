"""The recipe: all settings of a training, typed, in one YAML file."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mmgcs.errors import UsageError
from mmgcs.genres import LABEL_SETS, parse_genres
from mmgcs.labels import LABEL_SOURCES, LabelSource
from mmgcs.models import ENCODERS, FUSIONS
from mmgcs.preprocess import LANGUAGES
from mmgcs.registry import Registry
from mmgcs.training.augment import PLOT_CHANGES, POSTER_CHANGES
from mmgcs.training.losses import LOSSES
from mmgcs.wording import refusals

_PLACES = (Path("recipes"), Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")
"""Where recipes are looked up by name: in the current folder, a wheel, a clone."""

OWN_PLOTS = "plot"
"""The teacher of posters that is the plot branch of the same training."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(_Settings):
    """A model, a random change or a loss by its registered name, with its settings."""

    kind: str
    """Its name; all are listed below."""
    options: dict[str, Any] = {}
    """Its settings."""


class Loss(Component):
    """The loss."""

    kind: str = "bce"
    """A name in `mmgcs.training.losses.LOSSES`."""
    options: dict[str, Any] = {}
    """Its settings."""


def _known(registry: Registry[Callable[..., Any]], given: int = 0, reads: str = "") -> AfterValidator:
    """Return a validator of a component's name and options.

    Args:
        registry: the components of its kind.
        given: how many of the first arguments training itself gives.
        reads: the input that an encoder must read.
    """

    def check(component: Component) -> Component:
        kind, options = component.kind, component.options
        if kind not in registry:
            raise ValueError(f"there is no {registry.what} {kind!r}; known: {', '.join(registry)}")
        read = getattr(registry[kind], "input", reads)
        if read != reads:
            fitting = ", ".join(each for each in registry if getattr(registry[each], "input", "") == reads)
            raise ValueError(f"{kind} reads {read}s; known for {reads}s: {fitting}")
        known = dict(list(inspect.signature(registry[kind]).parameters.items())[given:])
        others = [name for name, parameter in known.items() if parameter.kind is parameter.VAR_KEYWORD]
        required = [name for name, parameter in known.items() if parameter.default is parameter.empty]
        wrong = [f"options.{name}: there is no such setting" for name in options if name not in known and not others]
        wrong += [f"options.{name} is missing" for name in required if name not in options and name not in others]
        if wrong:
            raise ValueError(f"{'; '.join(wrong)}; {kind} has {', '.join(known) or 'none'}")
        return component

    return AfterValidator(check)


class Optimization(_Settings):
    """How one stage is trained."""

    epochs: Annotated[float, Field(gt=0, le=1000)] = 3
    """The most passes over the training films: a whole number, or a share such as 0.5 for half of the films."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Films per step."""
    lr: Annotated[float, Field(gt=0.0)] = 1e-4
    """Highest learning rate of the deepest layers."""
    head_lr: Annotated[float, Field(gt=0.0)] = 1e-3
    """Highest learning rate of the head."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """Loshchilov & Hutter 2019 (decoupled weight decay), or Kingma & Ba 2015."""
    schedule: Literal["linear", "plateau"] = "linear"
    """How the learning rate changes: it rises and falls linearly, or is divided by ten after two validations
    without a better score on `valid`."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Factor on the learning rate for each layer further from the head."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """Weight decay of matrices; decoupled with AdamW."""
    source_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Weight decay of each label source's own correction of the head."""
    warmup: Share = 0.06
    """Share of the steps in which the learning rate rises; it then decays linearly to zero."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest norm of the gradient."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Validations without a better macro average precision after which the stage stops."""
    validations: Annotated[int, Field(ge=1)] = 1
    """Validations per epoch."""
    average: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Validate and keep a moving average of the weights, in which each step keeps this share of the old average (Polyak
    & Juditsky 1992), such as 0.998; 0 is off."""
    mixup: Annotated[float, Field(ge=0.0)] = 0.0
    """Beta parameter of mixup on hidden values, or a transformer's features (Verma et al. 2019, Manifold Mixup); 0 is
    off."""
    cutmix: Annotated[float, Field(ge=0.0)] = 0.0
    """Beta parameter of CutMix on the posters' feature maps (Yun et al. 2019); 0 is off."""
    loss: Annotated[Loss, _known(LOSSES, given=1)] = Loss()
    """The loss."""
    cache: bool = True
    """Compute the frozen part of an encoder of posters once and keep its output on disk, if that saves time."""

    @field_validator("epochs")
    @classmethod
    def _whole_epochs(cls, value: float) -> float:
        """Refuse 1.5 epochs: only less than one may be a fraction."""
        if value > 1 and value != int(value):
            raise ValueError(f"{value} epochs: give a whole number, or a share below 1")
        return value


class Distillation(_Settings):
    """Learning from another model's probabilities, in addition to the labels."""

    teacher: str
    """A finished bundle's folder, or "default" for the shipped one. For posters also "plot": the plot branch of the
    same training, which answers from the plot of each poster's film."""
    share: Share = 0.5
    """Share of the loss that comes from the teacher's probabilities."""


class BranchRecipe(_Settings):
    """One encoder and how it is trained."""

    encoder: Component
    """The encoder."""
    training: Optimization = Optimization()
    """How it is trained."""
    source_weights: dict[str, float] = {}
    """Weight of a film, by the source of its labels; 1 for other sources. Zero leaves the films out."""
    views: Annotated[int, Field(ge=1, le=8)] = 1
    """Versions of each film that training alternates between: plots with and without title, posters as they are and
    mirrored, then shifted."""
    distill: Distillation | None = None
    """Learn from a teacher's probabilities too."""
    augment: list[Component] = []
    """Random changes of plots or posters, by name in `mmgcs.training.augment`. They are drawn
    for every batch with `training.cache: false`; with a cached part, once for each view after the first."""
    token_bag: bool = False
    """Add a linear model of TF-IDF weights of the tokens to the trained encoder of plots (`training.bag`)."""
    int8: bool = True
    """Quantize the graph."""
    int8_may_cost: Annotated[float, Field(ge=0.0)] = 0.3
    """Points of macro-F1 on `valid` that quantization may cost; if it costs more, the float graph is kept."""


class PlotRecipe(BranchRecipe):
    """The encoder of plots and how it is trained."""

    encoder: Annotated[Component, _known(ENCODERS, reads="plot")]
    augment: list[Annotated[Component, _known(PLOT_CHANGES)]] = []


class PosterRecipe(BranchRecipe):
    """The encoder of posters and how it is trained."""

    encoder: Annotated[Component, _known(ENCODERS, reads="poster")]
    augment: list[Annotated[Component, _known(POSTER_CHANGES)]] = []


class FusionRecipe(_Settings):
    """How the branches are combined."""

    model: Annotated[Component, _known(FUSIONS, given=1)] = Component(kind="gated")
    """The fusion."""
    training: Optimization = Optimization(epochs=60, batch_size=64, lr=1e-3, weight_decay=0.1, patience=12)
    """How it is trained, on features that the finished branches make."""
    holdout: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.12
    """Share of the training films with both inputs that the branches do not see. The fusion learns from them, since it
    would trust a branch too much on films that the branch has memorized."""
    seen: Annotated[int, Field(ge=0)] = 0
    """Number of films that the fusion learns from in addition to the holdout, although the branches have seen them.
    Useful if the branches are trained for only an epoch or two, in which they memorize little."""
    drop: Share = 0.3
    """Probability with which training hides one of a film's inputs."""


class HeadRecipe(_Settings):
    """New heads on the frozen encoders of a finished bundle."""

    bundle: str = "default"
    """The bundle's folder, or "default" for the shipped one."""
    folds: Annotated[int, Field(ge=2, le=20)] = 4
    """Folds of cross-validation."""
    strengths: Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=1)] = [3, 10, 30, 100, 300, 1000, 3000]
    """Strengths of L2 regularization to try; the one with the best out-of-fold predictions is used."""


class SearchRange(_Settings):
    """The values that `mmgcs tune` tries for one setting: `choices`, or `low` to `high`."""

    choices: list[Any] | None = None
    """The values."""
    low: float | None = None
    """The lowest value."""
    high: float | None = None
    """The highest value."""
    log: bool = False
    """Draw evenly on a logarithmic scale."""
    whole: bool = False
    """Whole numbers only."""

    @model_validator(mode="before")
    @classmethod
    def _list_of_choices(cls, value: Any) -> Any:
        """Read a list as the choices."""
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

    @property
    def bounds(self) -> tuple[float, float]:
        """Return `low` and `high` of a range."""
        assert self.low is not None and self.high is not None
        return self.low, self.high


class Recipe(_Settings):
    """All settings of a training."""

    name: str
    """The bundle's name."""
    genres: Literal["default", "ten", "data"] | list[str] = "default"
    """The eighteen default genres, the original's ten, all genres in the data, or a list."""
    label_sources: dict[str, LabelSource] = {}
    """Further label sources, or other descriptions of known ones, by the name in the data's `labels` column."""
    target_source: str | None = None
    """The label source to predict as; by default the most common one in `valid`."""
    languages: tuple[str, ...] | None = None
    """Codes of the languages of plots that the model may be trusted with, such as [en, de]; plots in others get a
    warning and are not sure. By default, those of at least 2% of the training plots."""
    seed: int = 7
    """Seed of everything random."""
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = "auto"
    """Precision of the training; "auto" is mixed precision if it is faster on this machine, and 32 bits otherwise."""
    logger: Literal["tensorboard", "csv", "mlflow", "wandb"] = "tensorboard"
    """Where losses and scores are also written; each stage's `curves` has them as CSV in any case. mlflow uses
    MLFLOW_TRACKING_URI, or mlflow.db in the run's folder; wandb needs its account."""
    checkpoint_steps: Annotated[int, Field(ge=1)] = 200
    """Steps between checkpoints, from which --resume continues. Each validation makes one too."""
    plot: PlotRecipe | None = None
    """The encoder of plots."""
    poster: PosterRecipe | None = None
    """The encoder of posters."""
    fusion: FusionRecipe | None = None
    """How both are combined; needed if there are two."""
    head: HeadRecipe | None = None
    """Train only new heads, on the encoders of a finished bundle; instead of `plot`, `poster` and `fusion`."""
    coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Share of `valid` on which the model should be sure."""

    search: dict[str, SearchRange] = {}
    """Settings that `mmgcs tune` tries, by their key, such as "plot.training.lr"; training ignores it."""

    @field_validator("genres")
    @classmethod
    def _usual_spellings(cls, value: str | list[str]) -> str | list[str]:
        """Spell genres as tables are read, where "Sci-Fi" becomes "Science Fiction"."""
        return value if isinstance(value, str) else [genre for name in value for genre in parse_genres(name)]

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        plot, poster, logger = self.plot, self.poster, self.logger
        first = plot or poster
        unknown = [code for code in self.languages or () if code not in LANGUAGES]
        listed = self.genres if isinstance(self.genres, list) else ["any", "two"]
        mistakes = {
            f"languages: {', '.join(unknown)} unknown; known: {', '.join(LANGUAGES)}": unknown,
            "genres must name at least two, each once": len(set(listed)) < max(2, len(listed)),
            "has both `head` and `plot`, `poster` or `fusion`; a head uses finished encoders: remove one of them": (
                self.head and (plot or poster or self.fusion)
            ),
            "names neither `plot` nor `poster`; give at least one": not (plot or poster or self.head),
            "names `plot` and `poster` but no `fusion`; add `fusion: {}`": plot and poster and not self.fusion,
            "has a `fusion` of one input; name both `plot` and `poster` or leave `fusion` out": (
                self.fusion and not (plot and poster)
            ),
            "poster.token_bag: only plots have tokens; leave it out": poster and poster.token_bag,
            "distill.teacher: plot is for the posters of a recipe that also names `plot`; give a bundle's folder": (
                first and first.distill and first.distill.teacher == OWN_PLOTS
            ),
            "plot.training.cutmix: only posters can be cut and pasted; use mixup": plot and plot.training.cutmix,
            "poster.training has both mixup and cutmix; give one": (
                poster and poster.training.cutmix and poster.training.mixup
            ),
            "precision: 16-mixed needs a GPU, and there is none; give auto, 32 or bf16-mixed": (
                self.precision == "16-mixed" and not torch.cuda.is_available()
            ),
            f"logger: {logger} is not installed; pip install {logger}": (
                # A mere folder of that name has no origin.
                logger in ("mlflow", "wandb") and getattr(importlib.util.find_spec(logger), "origin", None) is None
            ),
        }
        if any(mistakes.values()):
            raise ValueError("; ".join(what for what, wrong in mistakes.items() if wrong))
        return self

    @property
    def branches(self) -> dict[str, BranchRecipe]:
        """Return the branches of the recipe, "plot" first."""
        both = {"plot": self.plot, "poster": self.poster}
        return {name: branch for name, branch in both.items() if branch is not None}

    def sources(self) -> dict[str, LabelSource]:
        """Return the label sources that come with mmgcs, and the recipe's own."""
        return {**LABEL_SOURCES, **self.label_sources}

    def genre_list(self) -> tuple[str, ...] | None:
        """Return the genres to learn; None for all genres in the data."""
        if isinstance(self.genres, str):
            return None if self.genres == "data" else LABEL_SETS[self.genres]
        return tuple(self.genres)


def find_recipe(name: str | Path) -> Path:
    """Return the file of a recipe, given by its path or by the name of one that comes with mmgcs.

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
        text = path.read_text(encoding="utf-8")
        value, lines = yaml.safe_load(text), dict(_lines(yaml.compose(text, Loader=yaml.SafeLoader)))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} is not a recipe: it must be a YAML mapping")
    for override in overrides or []:
        key, equals, setting = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: give KEY=VALUE, such as plot.training.epochs=1")
        try:
            _put(value, key, yaml.safe_load(setting))
        except (ValueError, yaml.YAMLError):
            raise UsageError(f"--set {override}: {setting!r} is not YAML") from None
    return _validated(value, str(path), lines)


def change_recipe(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values for the given keys, such as "plot.training.lr", and without its `search`.

    Raises:
        UsageError: there is no such key, or the value is impossible.
    """
    value = recipe.model_dump(mode="json", exclude_unset=True, exclude={"search"})
    for place, setting in settings.items():
        _put(value, place, setting)
    return _validated(value, "the recipe", {})


def _put(value: dict[str, Any], key: str, setting: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if value.get(parent) is None:
            value[parent] = {}
        value = value[parent]
        if not isinstance(value, dict):
            raise UsageError(f"{key}: {parent} is not a group of settings")
    value[last] = setting


def _validated(value: dict[str, Any], name: str, lines: Mapping[str, int]) -> Recipe:
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        mistakes = [
            f"{f'line {lines[key]}, ' if key in lines else ''}{f'{key}: ' if key else ''}{what}"
            for key, what in refusals(error, Recipe, "setting")
        ]
        many = f" has {len(mistakes)} mistakes" if len(mistakes) > 1 else ""
        raise UsageError(f"{name}{many}: {'; '.join(mistakes)}") from None


def _lines(node: yaml.Node | None, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield each key of a YAML mapping, such as "plot.training.lr", with its line."""
    items: list[tuple[str, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        items = [(str(name.value), name, value) for name, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        items = [(str(index), value, value) for index, value in enumerate(node.value)]
    for name, place, value in items:
        yield key + name, place.start_mark.line + 1
        if key.count(".") < 8:  # an alias can make a mapping contain itself
            yield from _lines(value, f"{key}{name}.")
