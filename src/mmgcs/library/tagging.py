"""`Library`: a folder of films that is scanned, tagged and restored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from mmgcs.errors import InputError, UsageError
from mmgcs.library.nfo_edit import new_nfo, with_values
from mmgcs.library.plans import Complete, LibraryOptions, Plan, Predict, plan_films
from mmgcs.library.review import plan_review
from mmgcs.library.scan import FilmFiles, find_films
from mmgcs.library.undo import STATE, Backups, Entry


@dataclass(frozen=True, slots=True)
class Undone:
    """What `Library.undo` did to a file: "restored", "removed", "unchanged", or "error" with a note."""

    path: str
    status: str
    note: str = ""


class Library:
    """A folder of films with NFO files.

    A scan reads the films and plans what would be written; `apply` writes plans; `undo` brings every file back byte for
    byte, even if a run was killed.

        library = Library("Films")
        classifier = mmgcs.load()
        options = LibraryOptions(labels=classifier.genres)
        plans = library.scan(options, classifier.predict_batch)
        with library.lock():
            for plan in library.apply(plans, options):
                print(plan.film.title, plan.genres)

    Attributes:
        folder: the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"there is no folder {self.folder}; give the folder that holds the films")
        self._backups: Backups | None = None

    @property
    def backups(self) -> Backups:
        """The copies and the journal."""
        self._backups = self._backups or Backups(self.folder)
        return self._backups

    def films(self) -> Iterator[FilmFiles]:
        """Yield the files of every film."""
        return find_films(self.folder)

    def scan(
        self,
        options: LibraryOptions,
        predict: Predict | None = None,
        complete: Complete | None = None,
        films: Iterable[FilmFiles] | None = None,
    ) -> Iterator[Plan]:
        """Plan what would be written for each film. Writes nothing.

        Args:
            options: what the user wants.
            predict: a classifier's `predict_batch`; None to report only what the files say.
            complete: looks up missing plots and posters before predicting.
            films: the films; all without it.
        """
        return plan_films(self.films() if films is None else films, options, predict, complete)

    def decided(
        self, review: Path, options: LibraryOptions, films: Iterable[FilmFiles] | None = None
    ) -> Iterator[Plan]:
        """Plan what a review decided: a list that `scan --out` wrote and a person edited."""
        return plan_review(self.films() if films is None else films, self.folder, review, options)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out of the library; `apply` and `undo` need it."""
        return self.backups.lock()

    def apply(self, plans: Iterable[Plan], options: LibraryOptions) -> Iterator[Plan]:
        """Do what plans say, one after the other.

        Yields:
            The plan, with the status "error" if its file could not be written.

        Raises:
            MmgcsError: nothing more can be written in this library.
        """
        for plan in plans:
            try:
                self._write(plan, options.element)
            except InputError as error:
                yield replace(plan, status="error", reason=str(error))
            else:
                yield plan

    def _write(self, plan: Plan, element: str) -> None:
        film = plan.film
        if plan.status == "change" and film.nfo is not None:
            self.backups.write(
                film.nfo, lambda content: with_values(content, plan.genres, element), expected=film.sha256
            )
        elif plan.status == "create":
            content = new_nfo(film.title or film.files.name, film.year, plan.genres, element)
            self.backups.write(film.files.new_nfo, lambda _: content, expected=None)

    def changed(self, films: Sequence[str] = (), run: str | None = None) -> list[Entry]:
        """Return the files that `undo` can bring back.

        Args:
            films: only these: paths of NFO files or folders, in the library or as they are.
            run: only the ones that this run wrote.

        Raises:
            UsageError: nothing was tagged here, or there is no such film.
        """
        if not (self.folder / STATE).is_dir():
            raise UsageError(
                f"nothing was tagged in {self.folder}: it has no {STATE}; give the folder that `tag` was given"
            )
        entries = self.backups.entries()
        if run is not None:
            entries = [entry for entry in entries if any(write.run == run for write in entry.writes)]
        if not films:
            return entries
        chosen: dict[str, Entry] = {}
        for film in films:
            found = [entry for entry in entries if self._is_in(entry, film)]
            if not found:
                raise UsageError(f"no file of {film!r} was changed; give the path of an .nfo or its folder")
            chosen |= {entry.path: entry for entry in found}
        return list(chosen.values())

    def run_of(self, name: str) -> str:
        """Return the run with a name, the beginning of a name, or "last".

        Raises:
            UsageError: there is none, or there are several.
        """
        runs = list(self.backups.runs())
        found = runs[-1:] if name == "last" else [run for run in runs if run.startswith(name)]
        if name in runs:
            return name
        if len(found) != 1:
            known = ", ".join(runs) or "none that can be undone alone"
            raise UsageError(f"{'no' if not found else 'more than one'} run {name!r}; known: {known}")
        return found[0]

    def undo(
        self, entries: Iterable[Entry], *, run: str | None = None, force: bool = False, follow: bool = False
    ) -> Iterator[Undone]:
        """Bring files back as they were; the arguments are those of `Backups.restore`."""
        for entry in entries:
            try:
                yield Undone(entry.path, self.backups.restore(entry, run=run, force=force, follow=follow))
            except InputError as error:
                yield Undone(entry.path, "error", str(error))

    def _is_in(self, entry: Entry, film: str) -> bool:
        path = self.folder / entry.path
        with contextlib.suppress(OSError):
            itself = {path.resolve(), path.parent.resolve() / path.name}
            wanted = [(base / film).resolve() for base in (self.folder, Path())]
            return any(one.is_relative_to(two) for one in itself for two in wanted)
        return False
