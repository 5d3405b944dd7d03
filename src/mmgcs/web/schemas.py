"""The requests and answers of the API. /openapi.json is generated from these models."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, WithJsonSchema, model_validator

PLOT = "Two detectives hunt a killer through the city."

PREDICTION: dict[str, Any] = {
    "genres": ["Crime"],
    "top": ["Crime", "Thriller", "Drama"],
    "probabilities": {"Crime": 0.91, "Drama": 0.28, "Thriller": 0.44},
    "thresholds": {"Crime": 0.37, "Drama": 0.42, "Thriller": 0.45},
    "inputs": ["plot"],
    "confidence": 0.74,
    "sure": True,
    "abstained": False,
    "possible": ["Crime", "Thriller"],
    "undecided": ["Thriller"],
    "strange": [],
    "warnings": [],
    "explanation": None,
}
"""PLOT and PREDICTION are examples in the API's description."""


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


def _reject_text(value: Any) -> Any:
    if isinstance(value, str) and value:
        raise ValueError("sent as text; send it as a file")
    return value


def _read_file(value: Any) -> Any:
    value = _reject_text(value)
    return value.read() or None if hasattr(value, "read") else None


def _split(value: Any) -> Any:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _split_columns(value: Any) -> Any:
    pairs = [pair.partition("=") for pair in _split(value)]
    if not all(field.strip() and column.strip() for field, _, column in pairs):
        raise ValueError("must be like plot=story, title=film")
    return {field.strip(): column.strip() for field, _, column in pairs}


FormText = Annotated[str | None, BeforeValidator(lambda value: value.read() if hasattr(value, "read") else value)]
"""A text; curl may also send it as a file."""

FormFile = Annotated[
    bytes | None,
    BeforeValidator(_read_file),
    WithJsonSchema({"type": ["string", "null"], "contentMediaType": "application/octet-stream"}),
]
"""A small file of a form, as bytes."""

FormUpload = Annotated[
    Any,
    BeforeValidator(_reject_text),
    WithJsonSchema({"type": "string", "contentMediaType": "application/octet-stream"}),
]
"""A large file of a form, which is not read into memory."""


class StrictModel(BaseModel):
    """A request. Unknown keys are rejected, because most are misspelt."""

    model_config = ConfigDict(extra="forbid")


class _TextIn(StrictModel):
    plot: FormText = Field(None, description="The plot, in prose.")
    title: FormText = Field(None, max_length=500, description="The title, which improves a prediction from a plot.")


class FilmIn(_TextIn):
    """A film to predict: a plot, a poster, or both."""

    poster: str | None = Field(None, description="The poster: an image file's bytes in base64.")


class PredictIn(FilmIn):
    """A film to predict, as JSON."""

    model_config = _example({"plot": PLOT, "title": "Night Shift"})

    explain: bool = Field(False, description="Also explain the prediction, which takes several times as long.")
    genres: list[Annotated[str, Field(max_length=60)]] | None = Field(
        None, max_length=100, description="The genres to explain; by default the predicted ones."
    )


class PredictForm(_TextIn):
    """A film to predict, as a form."""

    poster: FormFile = Field(None, description="The poster: a JPEG, PNG, WebP, AVIF, GIF or BMP file.")
    explain: bool = Field(False, description="Also explain the prediction, which takes several times as long.")
    genres: Annotated[list[str] | None, BeforeValidator(_split), WithJsonSchema({"type": ["string", "null"]})] = Field(
        None, description="The genres to explain, separated by commas; by default the predicted ones."
    )


class LegacyIn(BaseModel):
    """A plot, as the original application takes it: plot or text."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"plot": PLOT}], "anyOf": [{"required": ["plot"]}, {"required": ["text"]}]}
    )

    plot: str | None = Field(None, description="The plot, in prose.")
    text: str | None = Field(None, description="The plot under its other name.")
    title: str | None = Field(None, max_length=500, description="The title.")

    @model_validator(mode="after")
    def _require_plot(self) -> Self:
        if not (self.plot or self.text or "").strip():
            raise ValueError('has no plot; send {"plot": "…"}')
        return self


class LegacyPosterForm(BaseModel):
    """A poster, as the original application takes it."""

    poster: FormFile = Field(description="The poster: a JPEG, PNG, WebP, AVIF, GIF or BMP file.")


class BatchFilmIn(FilmIn):
    """A film of a batch."""

    id: str | None = Field(None, max_length=200, description="Returned with the prediction.")


class BatchIn(StrictModel):
    """Several films to predict."""

    model_config = _example({"films": [{"id": "1", "plot": PLOT}]})

    films: list[BatchFilmIn] = Field(min_length=1, description="The films; predictions come in the same order.")


class TableForm(StrictModel):
    """A table to tag in the background."""

    file: FormUpload = Field(description="The table; the extension of its name gives the format.")
    columns: Annotated[dict[str, str], BeforeValidator(_split_columns), WithJsonSchema({"type": "string"})] = Field(
        default_factory=dict,
        description="The columns to read, if they have other names, such as plot=story, title=film.",
    )


class SpanOut(BaseModel):
    """Neighbouring words of the plot, and how far each explained genre's log-odds fall without them."""

    start: int = Field(description="Position of their first character in the explanation's text.")
    end: int = Field(description="Position after their last character.")
    drops: dict[str, float] = Field(description="Genre to contribution; negative if they speak against the genre.")


class AttendedOut(BaseModel):
    """A word as the model's tokenizer split it, and its share of the model's attention."""

    word: str = Field(description="The word.")
    weight: float = Field(description="Its share; the shares of a plot sum to 1.")


class ExplanationOut(BaseModel):
    """What speaks for and against each explained genre.

    Every contribution is the fall of the genre's log-odds when that part of the input is hidden.
    """

    genres: list[str] = Field(description="The explained genres, most probable first.")
    text: str = Field(description="The plot as it was read; spans are positions in it.")
    spans: list[SpanOut] = Field(description="The plot's words, in order.")
    regions: dict[str, list[list[float]]] = Field(description="Genre to the poster's regions, row by row.")
    inputs: dict[str, dict[str, float]] = Field(description="Genre to the contribution of each input; may be negative.")
    passes: int = Field(description="How often the encoders ran.")
    attention: list[AttendedOut] = Field(
        default_factory=list,
        description="Where an encoder with attention looked, which is not necessarily why it answered.",
    )


class PredictionOut(BaseModel):
    """The prediction for one film."""

    model_config = _example(PREDICTION)

    genres: list[str] = Field(description="The predicted genres, most probable first; may be empty.")
    top: list[str] = Field(description="The three most probable genres, predicted or not.")
    probabilities: dict[str, float] = Field(description="The calibrated probability of every genre.")
    thresholds: dict[str, float] = Field(description="The probability above which each genre is predicted.")
    inputs: list[str] = Field(description='The inputs used: "plot", "poster" or both.')
    confidence: float = Field(description="The expected F1 of the predicted genres, 0 to 1.")
    sure: bool = Field(description="True if the prediction can be used without review.")
    abstained: bool = Field(description="The opposite of sure.")
    possible: list[str] = Field(
        description="Very likely one or more of these; for 90% of films the set contains every true genre."
    )
    undecided: list[str] = Field(description="Genres, predicted or not, that are too close to their threshold to tell.")
    strange: list[str] = Field(description="The inputs that are unlike those the model was trained on.")
    warnings: list[str] = Field(description="What was ignored, such as an unreadable poster next to a plot.")
    explanation: ExplanationOut | None = Field(None, description="Only if requested.")


class BatchFilmOut(BaseModel):
    """One film of a batch: a prediction or an error."""

    id: str | None = Field(description="The id that was sent with the film.")
    error: str | None = Field(description="Why there is no prediction.")
    prediction: PredictionOut | None = Field(description="The prediction.")


class BatchOut(BaseModel):
    """The predictions of a batch."""

    model_config = _example({"predictions": [{"id": "1", "error": None, "prediction": PREDICTION}]})

    predictions: list[BatchFilmOut] = Field(description="One per film, in the same order.")


class PreviewOut(BaseModel):
    """One of the first rows of a tagged table."""

    id: str = Field(description="The film's id.")
    title: str | None = Field(description="Its title.")
    genres: list[str] = Field(description="The predicted genres.")
    confidence: float | None = Field(description="The expected F1 of the predicted genres.")
    sure: bool | None = Field(description="False if the film needs review.")
    error: str | None = Field(description="Why there is no prediction.")


class JobOut(BaseModel):
    """A table being tagged."""

    model_config = _example(
        {
            "id": "fX3v9Qd0T1mW2kLr8sYbZA",
            "filename": "films.csv",
            "state": "running",
            "rows": 60,
            "films": 32,
            "done": 32,
            "share": 0.5333,
            "errors": 0,
            "unsure": 9,
            "genres": {"Drama": 18},
            "preview": [],
            "error": None,
            "result": None,
        }
    ) | ConfigDict(json_schema_serialization_defaults_required=True)

    id: str = Field(description="The job's id, which cannot be guessed.")
    filename: str = Field(description="The name of the uploaded file.")
    state: Literal["waiting", "running", "done", "failed"] = Field(
        default="waiting", description="The state of the job."
    )
    rows: int | None = Field(default=None, description="Films in the table; null until they are counted.")
    films: int = Field(default=0, description="Films read so far.")
    done: int = Field(default=0, description="Films tagged so far.")
    share: float = Field(default=0.0, description="Share of the table that is tagged, 0 to 1.")
    errors: int = Field(default=0, description="Films that could not be predicted.")
    unsure: int = Field(default=0, description="Films that need review.")
    genres: dict[str, int] = Field(default={}, description="How often each genre was predicted, most frequent first.")
    preview: list[PreviewOut] = Field(default=[], description="The first tagged rows.")
    error: str | None = Field(default=None, description="Why the job failed.")
    result: str | None = Field(default=None, description="Where to download the tagged table.")


class ModelOut(BaseModel):
    """The model being served."""

    model_config = _example(
        {
            "name": "default",
            "genres": ["Drama", "Thriller"],
            "inputs": ["plot", "poster"],
            "thresholds": {"plot": {"Drama": 0.41, "Thriller": 0.38}},
            "version": "1.0.0",
            "card": {"name": "default"},
        }
    )

    name: str = Field(description="The bundle's name; the same under /v2.")
    genres: list[str] = Field(description="The genres it knows.")
    inputs: list[str] = Field(description="The inputs it reads.")
    thresholds: dict[str, dict[str, float]] = Field(description="Combination of inputs to each genre's threshold.")
    version: str = Field(description="The version of mmgcs.")
    card: dict[str, Any] = Field(description="Its training data and measured quality.")


class LegacyOut(BaseModel):
    """The answer of the original application, with additions."""

    model_config = _example(
        {
            "genres": PREDICTION["top"],
            "chosen": PREDICTION["genres"],
            **{key: PREDICTION[key] for key in ("probabilities", "confidence", "sure", "warnings")},
        }
    )

    genres: list[str] = Field(description="The three most probable genres, whether or not they are predicted.")
    chosen: list[str] = Field(description="The predicted genres: those above their threshold.")
    probabilities: dict[str, float] = Field(description="The calibrated probability of every genre.")
    confidence: float = Field(description="The expected F1 of the predicted genres, 0 to 1.")
    sure: bool = Field(description="True if the prediction can be used without review.")
    warnings: list[str] = Field(description="What was ignored.")


class ErrorOut(BaseModel):
    """An error."""

    model_config = _example({"error": "plot: must be text, not 7"})

    error: str = Field(description="What is wrong and how to fix it, in one line.")


Parameters = dict[str, Any]
"""Extension parameters of the Open Inference Protocol; it requires that unknown ones are ignored."""


class TensorIn(BaseModel):
    """An input tensor of the Open Inference Protocol. An empty or missing value means that the film has none."""

    name: Literal["plot", "title", "poster"] = Field(description="The input; a poster in JSON is base64.")
    datatype: Literal["BYTES"] = Field(description="BYTES.")
    shape: list[Annotated[StrictInt, Field(ge=1)]] = Field(
        min_length=1, max_length=2, description="[films] or [films, 1]."
    )
    data: list[str | None] | list[Annotated[list[str | None], Field(min_length=1, max_length=1)]] | None = Field(
        None, description="The values; absent if they follow as binary data."
    )
    parameters: Parameters = Field(default_factory=dict, description="binary_data_size, for binary data that follows.")


class RequestedOutput(BaseModel):
    """A requested output tensor."""

    name: Literal["probabilities", "genres", "confidence", "sure"] = Field(description="The output.")
    parameters: Parameters = Field(default_factory=dict, description="binary_data: whether to send it as binary data.")


class InferIn(BaseModel):
    """An inference request of the Open Inference Protocol."""

    model_config = _example({"inputs": [{"name": "plot", "datatype": "BYTES", "shape": [1], "data": [PLOT]}]})

    id: str | None = Field(None, max_length=200, description="Returned with the answer.")
    inputs: list[TensorIn] = Field(min_length=1, max_length=3, description="The inputs, each for the same films.")
    outputs: list[RequestedOutput] = Field(default_factory=list, max_length=4, description="By default, all outputs.")
    parameters: Parameters = Field(
        default_factory=dict, description="binary_data_output: whether to send all outputs as binary data."
    )


class TensorOut(BaseModel):
    """An output tensor of the Open Inference Protocol."""

    name: Literal["probabilities", "genres", "confidence", "sure"] = Field(description="The output.")
    datatype: Literal["FP32", "BYTES", "BOOL"] = Field(description="The type of the values.")
    shape: list[int] = Field(description="[films], for probabilities [films, genres].")
    data: list[Any] | None = Field(None, description="The values, row by row; absent if they follow as binary data.")
    parameters: Parameters = Field(default_factory=dict, description="binary_data_size, for binary data that follows.")


class InferOut(BaseModel):
    """An inference answer of the Open Inference Protocol."""

    model_config = _example(
        {
            "model_name": "default",
            "model_version": "1",
            "outputs": [{"name": "genres", "datatype": "BYTES", "shape": [1], "data": ["Thriller|Drama"]}],
        }
    )

    id: str | None = Field(None, description="The id that was sent.")
    model_name: str = Field(description="The model's name.")
    model_version: str = Field(description="Its version.")
    outputs: list[TensorOut] = Field(description="The requested outputs.")
