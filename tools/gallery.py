"""Write docs/gallery.md: the thirty posters of the sample, what the default model says, and where it is wrong.

python tools/gallery.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

import mmgcs
from mmgcs.sample import sample_films

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 120

HEAD = """# Gallery

The thirty films of the sample that have a poster. The model was not trained on any of them. Each row shows TMDB's
genres and the model's answer from the plot and the poster together, and from the poster alone. ✓ marks a predicted
genre that TMDB has too, ✗ one that it does not have; *missed* lists TMDB's genres that were not predicted. The posters
are from before 1931 and in the public domain in the United States. Made by `python tools/gallery.py`.

The model errs most where a poster says little: silent-film posters look alike to a model that mostly saw posters from
after 1990, so from the poster alone it is often wrong. With the plot, the typical mistakes are neighbours
(Thriller for Horror, Action for Adventure) and the missing Drama of adventure films.

| Poster | Film | Plot and poster | Poster alone |
|---|---|---|---|
"""


def answer(film: mmgcs.Film, prediction: mmgcs.Prediction) -> str:
    """Return a prediction in a table's cell, compared with the film's genres."""
    true = film.genres or ()
    lines = [
        f"{'✓' if genre in true else '✗'} {genre} {prediction.probabilities[genre]:.0%}" for genre in prediction.genres
    ]
    missed = [genre for genre in true if genre not in prediction.genres]
    lines += [f"*missed {', '.join(missed)}*"] if missed else []
    return "<br>".join([*lines, *([] if prediction.sure else ["**needs review**"])])


def main() -> None:
    """Write the page and its thumbnails."""
    classifier = mmgcs.load()
    films = [film for film in sample_films() if film.poster]
    pictures = DOCS / "images" / "gallery"
    pictures.mkdir(exist_ok=True)
    rows = []
    for film in films:
        assert isinstance(film.poster, Path)
        both = classifier.predict(film.plot, film.poster, title=film.title)
        alone = classifier.predict(poster=film.poster)
        with Image.open(film.poster) as poster:
            poster.thumbnail((WIDTH, 2 * WIDTH))
            poster.convert("RGB").save(pictures / f"{film.id}.jpg", quality=80)
        name = f"**{film.title}** ({film.year})<br>{', '.join(film.genres or ())}"
        picture = f"![Poster of {film.title}](images/gallery/{film.id}.jpg)"
        rows.append(f"| {picture} | {name} | {answer(film, both)} | {answer(film, alone)} |")
    (DOCS / "gallery.md").write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
