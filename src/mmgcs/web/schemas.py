"""The shapes of requests and answers of the API; /openapi.json is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt


class Strict(BaseModel):
    """A request: an unknown key is refused, since it is most often a misspelt one."""

    model_config = ConfigDict(extra="forbid")


class FilmIn(Strict):
    """A film to predict: a plot, a poster, or both."""

    plot: str | None = Field(None, description="The plot in prose.")
    title: str | None = Field(None, max_length=500, description="The title, which helps beside a plot.")
    poster: str | None = Field(None, description="The poster: a picture file's bytes in base64.")


class PredictIn(FilmIn):
    """The body of a prediction."""

    explain: bool = Field(False, description="Say which words and regions mattered.")
    genres: list[Annotated[str, Field(max_length=60)]] | None = Field(
        None, max_length=100, description="The genres to explain; without it, the chosen ones."
    )


class BatchFilmIn(FilmIn):
    """A film of a batch."""

    id: str | None = Field(None, max_length=200, description="Comes back with the answer.")


class BatchIn(Strict):
    """The body of a batch."""

    films: list[BatchFilmIn] = Field(min_length=1, description="The films, answered in this order.")


class SpanOut(BaseModel):
    """Neighbouring words of the plot, and how far each explained genre's log-odds fall without them."""

    start: int = Field(description="The place of their first character in the explanation's text.")
    end: int = Field(description="The place after their last.")
    drops: dict[str, float] = Field(description="For each genre the fall; negative where they speak against it.")


class AttendedOut(BaseModel):
    """A word as the model's tokenizer cut it, and its share of the model's attention."""

    word: str = Field(description="The word.")
    weight: float = Field(description="Its share; those of a plot sum to 1.")


class ExplanationOut(BaseModel):
    """What speaks for and against each explained genre, as falls in its log-odds."""

    genres: list[str] = Field(description="The genres that are explained, most probable first.")
    text: str = Field(description="The plot as it was read; spans are places in it.")
    spans: list[SpanOut] = Field(description="The plot's words, in order.")
    regions: dict[str, list[list[float]]] = Field(description="For each genre the poster's regions, row by row.")
    inputs: dict[str, dict[str, float]] = Field(description="For each genre and input, the fall without that input.")
    passes: int = Field(description="How often the encoders were run.")
    attention: list[AttendedOut] = Field(
        default_factory=list, description="Where an encoder with attention looked, which need not be why it answered."
    )


class PredictionOut(BaseModel):
    """What the model says of one film."""

    genres: list[str] = Field(description="The chosen genres, most probable first; may be empty.")
    top: list[str] = Field(description="The three most probable genres, chosen or not.")
    probabilities: dict[str, float] = Field(description="The calibrated probability of every genre.")
    thresholds: dict[str, float] = Field(description="The probability from which a genre is chosen.")
    inputs: list[str] = Field(description='What was read, of "plot" and "poster".')
    confidence: float = Field(description="The expected F1 of the chosen genres, 0 to 1.")
    sure: bool = Field(description="Whether the confidence suffices to use the answer without a look.")
    abstained: bool = Field(description="The opposite of sure.")
    possible: list[str] = Field(
        description="The prediction set: for 90% of films it holds every true genre. Empty where the model states none."
    )
    undecided: list[str] = Field(
        description="Genres, chosen or not, too near their threshold to tell. Empty where the model leaves none open."
    )
    warnings: list[str] = Field(description="What was left aside, as a poster that cannot be read beside a plot.")
    explanation: ExplanationOut | None = Field(None, description="Where it was asked for.")


class BatchFilmOut(BaseModel):
    """One film of a batch: a prediction, or why there is none."""

    id: str | None = Field(description="The id that came with the film.")
    error: str | None = Field(description="Why there is no prediction.")
    prediction: PredictionOut | None = Field(description="The prediction.")


class BatchOut(BaseModel):
    """The answer to a batch."""

    predictions: list[BatchFilmOut] = Field(description="One for each film, in the films' order.")


class JobOut(BaseModel):
    """A table that is being tagged."""

    id: str = Field(description="What it is asked for by; cannot be guessed.")
    state: str = Field(description="waiting, running, done or failed.")
    films: int = Field(description="Films that were read so far.")
    done: int = Field(description="Films that are tagged.")
    share: float = Field(description="The share of the table that is tagged, 0 to 1.")
    errors: int = Field(description="Films that could not be predicted.")
    unsure: int = Field(description="Films that are worth a human look.")
    error: str | None = Field(description="Why it failed.")
    result: str | None = Field(description="Where the tagged table is fetched.")


class ModelOut(BaseModel):
    """The model that answers."""

    name: str = Field(description="The bundle's name.")
    genres: list[str] = Field(description="The genres that it knows.")
    inputs: list[str] = Field(description="What it reads.")
    thresholds: dict[str, dict[str, float]] = Field(description="For each combination of inputs, each genre's.")
    version: str = Field(description="The version of mmgcs.")
    card: dict[str, Any] = Field(description="Where it comes from and what it was measured to do.")


class LegacyOut(BaseModel):
    """The original application's answer, with what was added to it."""

    genres: list[str] = Field(description="The three most probable genres.")
    chosen: list[str] = Field(description="The genres that reach their threshold.")
    probabilities: dict[str, float] = Field(description="The calibrated probability of every genre.")
    confidence: float = Field(description="The expected F1 of the chosen genres, 0 to 1.")
    sure: bool = Field(description="Whether the confidence suffices to use the answer without a look.")
    warnings: list[str] = Field(description="What was left aside.")


class ErrorOut(BaseModel):
    """What went wrong, in one line."""

    error: str = Field(description="What is wrong, and how to mend it.")


Parameters = dict[str, Any]
"""What a request of the Open Inference Protocol adds; unknown ones are left aside, as the protocol says."""


class TensorIn(BaseModel):
    """An input of the Open Inference Protocol. An empty or missing value says that a film has none."""

    name: Literal["plot", "title", "poster"] = Field(description="Which input; a poster in JSON is base64.")
    datatype: Literal["BYTES"] = Field(description="BYTES.")
    shape: list[Annotated[StrictInt, Field(ge=1)]] = Field(
        min_length=1, max_length=2, description="[films], or [films, 1]."
    )
    data: list[str | None] | list[Annotated[list[str | None], Field(min_length=1, max_length=1)]] | None = Field(
        None, description="The values; left out where they follow as binary data."
    )
    parameters: Parameters = Field(default_factory=dict, description="binary_data_size, of values that follow.")


class TensorWanted(BaseModel):
    """An output that is asked for."""

    name: Literal["probabilities", "genres", "confidence", "sure"] = Field(description="Which output.")
    parameters: Parameters = Field(default_factory=dict, description="binary_data: whether it comes as binary data.")


class InferIn(BaseModel):
    """A request of the Open Inference Protocol."""

    id: str | None = Field(None, max_length=200, description="Comes back with the answer.")
    inputs: list[TensorIn] = Field(min_length=1, max_length=3, description="The inputs, each with as many films.")
    outputs: list[TensorWanted] = Field(default_factory=list, max_length=4, description="All, where there are none.")
    parameters: Parameters = Field(default_factory=dict, description="binary_data_output: all outputs as binary data.")


class TensorOut(BaseModel):
    """An output of the Open Inference Protocol."""

    name: str = Field(description="Which output.")
    datatype: str = Field(description="FP32, BYTES or BOOL.")
    shape: list[int] = Field(description="[films], or [films, genres].")
    data: list[Any] | None = Field(None, description="The values, row by row; genres of a film are joined by |.")
    parameters: Parameters | None = Field(None, description="binary_data_size, of values that follow.")


class InferOut(BaseModel):
    """The answer of the Open Inference Protocol."""

    model_name: str = Field(description="mmgcs.")
    model_version: str = Field(description="1.")
    id: str | None = Field(None, description="The request's.")
    outputs: list[TensorOut] = Field(description="The outputs that were asked for.")


class TensorKind(BaseModel):
    """What an input or output of the Open Inference Protocol is."""

    name: str = Field(description="Its name.")
    datatype: str = Field(description="FP32, BYTES or BOOL.")
    shape: list[int] = Field(description="-1 stands for any number of films.")


class ModelMetadataOut(BaseModel):
    """The model as the Open Inference Protocol describes it."""

    name: str = Field(description="mmgcs.")
    versions: list[str] = Field(description="One.")
    platform: str = Field(description="What runs it.")
    inputs: list[TensorKind] = Field(description="plot, title and poster.")
    outputs: list[TensorKind] = Field(description="probabilities, genres, confidence and sure.")
    parameters: dict[str, str] = Field(description="genres: the columns of probabilities, joined by |.")
