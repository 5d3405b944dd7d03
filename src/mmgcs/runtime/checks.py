"""Check that a bundle is complete, predicts, and still gives the predictions that its card records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgcs.bundle import CARD_JSON, CARD_TEXT, CONFIG, Bundle, BundleConfig, seal, write_bundle
from mmgcs.errors import MmgcsError
from mmgcs.files import write_json
from mmgcs.film import Film
from mmgcs.runtime.classifier import Classifier, without
from mmgcs.sample import sample_films

TOLERANCE = 0.08
"""The largest allowed difference from a card's probability. Processors with VNNI compute 8-bit products exactly, others
clip large sums: the default bundle's answers differ by up to 0.05."""

CARD_KEY = "sample_predictions"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    passed: bool
    detail: str


def record_samples(classifier: Classifier, films: Sequence[Film] | None = None) -> list[dict[str, Any]]:
    """Return the predictions for sample films that a card records, for `verify` to compare with.

    Args:
        classifier: the loaded bundle.
        films: films of the shipped sample; None for the first ten.

    Returns:
        For each film and each combination of inputs: the film's `id` in the shipped sample, `inputs` ("plot", "poster"
        or "plot+poster") and `probabilities` by genre.
    """
    rows: list[dict[str, Any]] = []
    for film in sample_films()[:10] if films is None else films:
        for shown in (film, without(film, "poster"), without(film, "plot")):
            (prediction,) = classifier.predict_batch([shown])
            found = {"inputs": "+".join(prediction.inputs), "probabilities": dict(prediction.probabilities)}
            row = {"id": film.id, **found}
            if prediction.error is None and row not in rows:
                rows.append(row)
    return rows


def write_carded_bundle(
    path: Path,
    config: BundleConfig,
    fill: Callable[[Path], None],
    describe: Callable[[Classifier], tuple[dict[str, Any], str]],
    *,
    replace: bool = False,
) -> Bundle:
    """Write a bundle with a card about itself: it is loaded and described before it is moved to `path`.

    Args:
        path, config, fill, replace: as for `write_bundle`.
        describe: called with the bundle; returns its card as data and as Markdown.
    """

    def fill_with_card(folder: Path) -> None:
        fill(folder)
        write_json(folder / CONFIG, config.to_json())
        seal(folder)
        card, text = describe(Classifier(Bundle(folder)))
        write_json(folder / CARD_JSON, card)
        (folder / CARD_TEXT).write_text(text, encoding="utf-8")

    return write_bundle(path, config, fill_with_card, replace=replace)


def verify(path: Path) -> list[Check]:
    """Check a bundle: its checksums, its graphs, its predictions for the shipped sample, and its card.

    Raises:
        UsageError: there is no bundle at `path`.
        BundleError: it is of a newer format, or its manifest or configuration cannot be read.
    """
    bundle = Bundle(path)
    problems = bundle.check()
    checks = [Check("sums", not problems, "; ".join(problems) or f"{len(bundle.files)} files match the manifest")]
    if problems:
        return checks
    try:
        classifier = Classifier(bundle)
        films = sample_films()
        predictions = classifier.predict_batch(films)
        readable = sum(any(getattr(film, name) is not None for name in bundle.config.inputs) for film in films)
        done = sum(prediction.error is None for prediction in predictions)
        checks.append(Check("predicts", done >= readable, f"{done} of the {readable} sample films that it can read"))
        checks.append(_compare_with_card(bundle, classifier))
    except MmgcsError as error:
        checks.append(Check("predicts" if len(checks) == 1 else "card", False, str(error)))
    return checks


def _compare_with_card(bundle: Bundle, classifier: Classifier) -> Check:
    recorded = bundle.card().get(CARD_KEY)
    if not recorded:
        return Check("card", True, "the card records no sample predictions to compare with")
    try:
        ids = {row["id"] for row in recorded}
        films = [film for film in sample_films() if film.id in ids]
        current = {(row["id"], row["inputs"]): row["probabilities"] for row in record_samples(classifier, films)}
        known = [row for row in recorded if row["id"] in {film.id for film in films}]
        differences = [
            abs(current.get((row["id"], row["inputs"]), {}).get(genre, -1.0) - probability)
            for row in known
            for genre, probability in row["probabilities"].items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        return Check("card", False, f"the card's {CARD_KEY} cannot be read ({error!r})")
    worst = max(differences, default=1.0)
    detail = f"the largest difference from {len(known)} recorded predictions is {worst:.4f} (at most {TOLERANCE})"
    return Check("card", worst <= TOLERANCE, detail)
