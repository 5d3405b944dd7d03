"""The options that a library remembers, in `.mmgcs/settings.toml`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer
from mmgcs.library.undo import STATE
from mmgcs.wording import refusal

HEAD = "# Options of `mmgcs library` for this library. Options on the command line come first.\n"


class LibrarySettings(BaseModel):
    """Options by their names in the file; None for one that was not given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["only-missing", "add", "replace"] | None = None
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    max_genres: int | None = Field(default=None, ge=1)
    exclude: tuple[str, ...] | None = None
    create_nfo: bool | None = None
    element: Literal["genre", "tag"] | None = None
    names: str | None = None
    enrich: str | None = None

    def or_else(self, other: LibrarySettings) -> LibrarySettings:
        """Return these settings, with what was not given taken from `other`."""
        return other.model_copy(update=self.model_dump(exclude_none=True))


def load_settings(root: Path) -> LibrarySettings:
    """Return the settings of the library in the folder `root`; all None without a file.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    path = root / STATE / "settings.toml"
    try:
        return LibrarySettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        return LibrarySettings()
    except ValidationError as error:
        where, what = refusal(error, LibrarySettings, "setting")
        raise UsageError(f"{path}: {where}: {what}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); fix or remove it") from None


def save_settings(root: Path, settings: LibrarySettings) -> Path:
    """Write the settings of a library. Returns the file."""
    path = root / STATE / "settings.toml"
    given = settings.model_dump(mode="json", exclude_none=True)
    with atomic_writer(path) as handle:  # TOML writes these values as JSON does
        handle.write(
            HEAD + "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in given.items())
        )
    return path
