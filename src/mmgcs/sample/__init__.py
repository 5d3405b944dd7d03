"""The sample that ships with the package: sixty films that the default model was not trained on.

The plots were written for this project. Thirty films have their original posters, of 1903 to 1930, which are in the
public domain in the United States.
"""

from __future__ import annotations

from pathlib import Path

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer
from mmgcs.film import Film
from mmgcs.tables import read_films

__all__ = ["copy_sample", "sample_films", "sample_table"]


def sample_table() -> Path:
    """Return the path of the sample's table, `films.csv`; its posters are in the same folder."""
    return Path(__file__).parent / "films.csv"


def sample_films() -> list[Film]:
    """Return the sixty films of the sample, with genres, plots and splits, half of them with posters."""
    return [film for chunk in read_films(sample_table()) for film in chunk]


def copy_sample(folder: Path) -> list[str]:
    """Copy sample files into a folder: `films.csv`, its `posters/`, and one film's `plot.txt` and `poster.jpg`.

    Args:
        folder: the target; it is created if missing. Files that already exist and are equal are left alone.

    Returns:
        The names in the folder, with the posters as one name (`posters/`).

    Raises:
        UsageError: the folder is a file, or holds a different file with one of these names. Nothing is written then.
        OSError: the folder cannot be written.
    """
    for place in (folder, folder / "posters"):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file, not a folder, so nothing was copied; give an empty folder")
    (one,) = (film for film in sample_films() if film.id == "tt0015624")  # The Big Parade
    assert isinstance(one.poster, Path) and one.plot is not None
    table = sample_table()
    content = {
        "films.csv": table.read_bytes(),
        "plot.txt": f"{one.plot}\n".encode(),
        "poster.jpg": one.poster.read_bytes(),
        **{f"posters/{path.name}": path.read_bytes() for path in sorted((table.parent / "posters").glob("*.jpg"))},
    }
    for name, data in content.items():
        path = folder / name
        if path.exists() and (not path.is_file() or path.read_bytes() != data):
            raise UsageError(f"{path} already exists with other content, so nothing was copied; give an empty folder")
    for name, data in content.items():
        if not (folder / name).exists():
            with atomic_writer(folder / name, "wb") as handle:
                handle.write(data)
    return ["films.csv", "plot.txt", "poster.jpg", "posters/"]
