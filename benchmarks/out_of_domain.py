"""How often inputs that are no films are answered "not sure", and what that costs on films.

    python benchmarks/out_of_domain.py --data FILMS --posters DIR [--model DIR] [--write] [--pictures DIR]

Fits the detectors of the bundle anew from the films' train and valid splits, and measures them beside the bundle
without any (the named reference), on the texts and pictures of tests/out_of_domain.py. The detectors were chosen with
"tune", "held" and the photographs all in view; only the texts of "blind" were written after that. `--pictures` adds a
folder of pictures of one's own, such as photographs. `--write` puts the detectors into the bundle.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from out_of_domain import pictures, texts

from mmgcs import Film, load
from mmgcs.bundle import DEFAULT_BUNDLE
from mmgcs.evaluation import add_domain, fit_domain
from mmgcs.runtime import Classifier, Domain, without
from mmgcs.tables import read_films


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--posters", type=Path)
    parser.add_argument("--model", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    films = [film for chunk in read_films(given.data, posters=given.posters) for film in chunk]
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in ("without", "with")}
        for path in paths.values():
            shutil.copytree(given.model, path)
        add_domain(paths["without"], Domain(()))
        domain = fit_domain(load(paths["without"]), films, log=print)
        add_domain(paths["with"], domain)
        print(f"domain.npz: {(paths['with'] / 'domain.npz').stat().st_size / 2**20:.2f} MiB\n")
        models = {name: load(path) for name, path in paths.items()}
        print(f"{'share not sure':<28}{'films':>7}{'without':>9}{'with':>7}")
        for half in ("tune", "held"):
            show(f"texts, {half}", [Film(plot=text) for _, text in texts(half)], models)
            show(f"drawn pictures, {half}", [Film(poster=data) for _, data in pictures(half)], models)
        show("texts, blind", [Film(plot=text) for _, text in texts("blind")], models)
        if given.pictures:
            found = sorted(path for path in given.pictures.iterdir() if path.suffix in (".jpg", ".jpeg", ".png"))
            show("own pictures", [Film(poster=path) for path in found], models)
        for split in ("valid", "test"):
            here = [film for film in films if film.split == split]
            both = [film for film in here if film.plot and film.poster]
            show(f"{split}: plot only", [without(film, "poster") for film in here if film.plot], models)
            show(f"{split}: poster only", [without(film, "plot") for film in here if film.poster], models)
            show(f"{split}: plot and poster", both, models)
    if given.write:
        add_domain(given.model, domain)


def show(name: str, films: list[Film], models: dict[str, Classifier]) -> None:
    unsure = {
        model: np.mean(
            [not one.sure for start in range(0, len(films), 64) for one in c.predict_batch(films[start : start + 64])]
        )
        for model, c in models.items()
    }
    print(f"{name:<28}{len(films):>7}{unsure['without']:>9.3f}{unsure['with']:>7.3f}", flush=True)


if __name__ == "__main__":
    main()
