"""The options that a library remembers, in `.mmgcs/settings.toml`."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.files import atomic_writer
from mmgcs.library.plans import ELEMENTS, MODES
from mmgcs.library.undo import STATE
from mmgcs.wording import did_you_mean

HEAD = "# Options of `mmgcs library` for this library. Options on the command line come first.\n"


@dataclass(frozen=True, slots=True)
class Settings:
    """Options by their names in the file; None for one that was not given."""

    mode: str | None = None
    min_confidence: float | None = None
    max_genres: int | None = None
    exclude: tuple[str, ...] | None = None
    create_nfo: bool | None = None
    element: str | None = None
    names: str | None = None
    enrich: str | None = None

    def or_else(self, other: Settings) -> Settings:
        """Return these settings, with what was not given taken from `other`."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(other, **given)


_KINDS: dict[str, tuple[type, ...]] = {
    "mode": (str,),
    "min_confidence": (int, float),
    "max_genres": (int,),
    "exclude": (list,),
    "create_nfo": (bool,),
    "element": (str,),
    "names": (str,),
    "enrich": (str,),
}


def load_settings(root: Path) -> Settings:
    """Return the settings of the library in the folder `root`; all None without a file.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    path = root / STATE / "settings.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); fix or remove it") from None
    for name, value in content.items():
        if name not in _KINDS:
            hint = did_you_mean(name, _KINDS) or f"known: {', '.join(_KINDS)}"
            raise UsageError(f"{path} has an unknown setting {name!r}; {hint}")
        if not isinstance(value, _KINDS[name]) or (isinstance(value, bool) and name != "create_nfo"):
            raise UsageError(f"{path}: {name} has the wrong type of value, {value!r}")
    _check(path, content)
    if "exclude" in content:
        content["exclude"] = tuple(map(str, content["exclude"]))
    return Settings(**content)


def save_settings(root: Path, settings: Settings) -> Path:
    """Write the settings of a library. Returns the file."""
    path = root / STATE / "settings.toml"
    lines = [
        f"{one.name} = {json.dumps(value, ensure_ascii=False)}\n"  # TOML writes these values as JSON does
        for one in fields(settings)
        if (value := getattr(settings, one.name)) is not None
    ]
    with atomic_writer(path) as handle:
        handle.write(HEAD + "".join(lines))
    return path


def _check(path: Path, content: dict[str, Any]) -> None:
    for name, known in (("mode", MODES), ("element", ELEMENTS)):
        if content.get(name, known[0]) not in known:
            raise UsageError(f"{path}: {name} is {content[name]!r}; write one of {', '.join(known)}")
    if not 0 <= content.get("min_confidence", 0) <= 1:
        raise UsageError(f"{path}: min_confidence is {content['min_confidence']}; write a number from 0 to 1")
    if content.get("max_genres", 1) < 1:
        raise UsageError(f"{path}: max_genres is {content['max_genres']}; write at least 1")
