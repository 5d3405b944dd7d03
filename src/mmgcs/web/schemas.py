"""The shapes of requests and answers of the API; /openapi.json is made from them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


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
    """Neighbouring words of the plot, and what each explained genre's probability loses without them."""

    start: int
    end: int
    drops: dict[str, float]


class AttendedOut(BaseModel):
    """A word as the model's tokenizer cut it, and its share of the model's attention."""

    word: str
    weight: float


class ExplanationOut(BaseModel):
    """What spoke for and against each explained genre, as falls of its probability."""

    genres: list[str]
    text: str = Field(description="The plot as it was read; spans are places in it.")
    spans: list[SpanOut]
    regions: dict[str, list[list[float]]] = Field(description="For each genre the poster's regions, row by row.")
    inputs: dict[str, dict[str, float]]
    shares: dict[str, float] = Field(description="How much came from each input; they sum to 1.")
    passes: int
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
    warnings: list[str]
    explanation: ExplanationOut | None = None


class BatchFilmOut(BaseModel):
    """One film of a batch: a prediction, or why there is none."""

    id: str | None
    error: str | None
    prediction: PredictionOut | None


class BatchOut(BaseModel):
    """The answer to a batch."""

    predictions: list[BatchFilmOut]


class JobOut(BaseModel):
    """A table that is being tagged."""

    id: str
    state: str = Field(description="waiting, running, done or failed.")
    films: int = Field(description="Films that were read so far.")
    done: int = Field(description="Films that are tagged.")
    errors: int = Field(description="Films that could not be predicted.")
    unsure: int = Field(description="Films that are worth a human look.")
    error: str | None
    result: str | None = Field(description="Where the tagged table is fetched.")


class ModelOut(BaseModel):
    """The model that answers."""

    name: str
    genres: list[str]
    inputs: list[str]
    thresholds: dict[str, dict[str, float]]
    version: str = Field(description="The version of mmgcs.")
    card: dict[str, Any]


class LegacyOut(BaseModel):
    """The original application's answer, with what was added to it."""

    genres: list[str] = Field(description="The three most probable genres.")
    chosen: list[str]
    probabilities: dict[str, float]
    confidence: float
    sure: bool
    warnings: list[str]


class ErrorOut(BaseModel):
    """What went wrong, in one line."""

    error: str
