"""The bundle: the one artifact that crosses from learning to running.

A bundle is a folder of ONNX graphs, JSON and a model card. `manifest.json` names the format version and the SHA-256
and size of every other file. `bundle.json` holds what a prediction needs besides the graphs. This module knows the
format and neither torch nor onnxruntime. docs/reference/bundle-format.md describes every key.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from mmgcs.errors import BundleError, UsageError
from mmgcs.files import is_inside, read_file, sha256, write_json

FORMAT = "mmgcs-bundle"
FORMAT_VERSION = (1, 0)
MANIFEST = "manifest.json"
MAX_MANIFEST = 16 * 2**20
CONFIG = "bundle.json"
CARD_JSON = "card.json"
CARD_TEXT = "CARD.md"

DEFAULT_BUNDLE = Path(__file__).parent / "bundles" / "default"
"""The bundle that ships in the package."""

LARGEST = 1_000_000
"""What no number of a decision is beyond: graphs and decisions are in single precision."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Branch:
    """One encoder: what it reads, how that is prepared, and the graph that turns it into features.

    Attributes:
        name: the branch's name, which is also the name of the fusion graph's input for its features.
        input: what of the film it reads, "plot" or "poster".
        kind: the preprocessing, a name in `mmgcs.preprocess.PREPROCESSORS`.
        options: that preprocessing's settings (tokenizer file, lengths, sizes).
        graph: the ONNX file, from the prepared arrays to `features` of shape (batch, width).
        width: the number of features.
        encoder: the name of the technique, for the card and for explanations.
    """

    name: str
    input: str
    kind: str
    options: Mapping[str, Any]
    graph: str
    width: int
    encoder: str


@dataclass(frozen=True, slots=True)
class Decision:
    """How logits become an answer for films with one combination of inputs. All lists have one entry a genre.

    Attributes:
        slope, intercept: Platt scaling (Platt 1999), probability = sigmoid(slope · logit + intercept).
        thresholds: a genre is chosen where its probability reaches its threshold.
        confidence: the confidence under which a prediction is called not sure.
        possible: the probability from which a genre belongs to the prediction set, which holds all of a film's genres
            for 90% of films (see `mmgcs.evaluation.conformal`); None where the bundle states no such sets.
        margin: a genre whose probability is nearer to its threshold than this, in log-odds, is undecided (see
            `mmgcs.evaluation.calibration.fit_margin`); None where the bundle leaves no genre open.
    """

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    thresholds: tuple[float, ...]
    confidence: float
    possible: float | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class BundleConfig:
    """What a prediction needs besides the graphs: the content of bundle.json.

    Attributes:
        name: the bundle's name.
        genres: the genres, in the order of every array.
        branches: the encoders.
        fusion: the ONNX file from the branches' features and `present` (batch, branches) to `logits` (batch, genres).
        decisions: for each combination of inputs ("plot", "poster", "plot+poster") how logits become an answer.
        extra: anything a later minor version adds.
    """

    name: str
    genres: tuple[str, ...]
    branches: tuple[Branch, ...]
    fusion: str
    decisions: Mapping[str, Decision]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the bundle can read, of "plot" and "poster", in that order."""
        read = {branch.input for branch in self.branches}
        return tuple(name for name in ("plot", "poster") if name in read)

    def to_json(self) -> dict[str, Any]:
        """The value that bundle.json holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> BundleConfig:
        """Read the value that bundle.json holds.

        Raises:
            BundleError: a key is missing or has a value that it cannot have, or numbers, genres and inputs do not fit.
        """
        try:
            config = cls(
                name=_typed(value["name"], str),
                genres=tuple(_typed(genre, str) for genre in _typed(value["genres"], list)),
                branches=tuple(_branch(branch) for branch in _typed(value["branches"], list)),
                fusion=_typed(value["fusion"], str),
                decisions={
                    inputs: Decision(
                        slope=tuple(map(_number, decision["slope"])),
                        intercept=tuple(map(_number, decision["intercept"])),
                        thresholds=tuple(map(_number, decision["thresholds"])),
                        confidence=_number(decision["confidence"]),
                        possible=None if decision.get("possible") is None else _number(decision["possible"]),
                        margin=None if decision.get("margin") is None else _number(decision["margin"]),
                    )
                    for inputs, decision in _typed(value["decisions"], dict).items()
                },
                extra=_typed(value.get("extra", {}), dict),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BundleError(f"{CONFIG} is not a bundle's configuration ({error!r}); get the bundle again") from error
        if not config.genres or not config.branches:
            raise BundleError(f"{CONFIG} names no genres or no branches; get the bundle again")
        for what, names in (("genres", config.genres), ("branches", [branch.name for branch in config.branches])):
            if len(set(names)) < len(names):
                raise BundleError(f"{CONFIG} names one of its {what} twice; get the bundle again")
        lacking = {*config.inputs, "+".join(config.inputs)} - set(config.decisions)
        if lacking:
            raise BundleError(f"{CONFIG} has no decision for {' and '.join(sorted(lacking))}; get the bundle again")
        for inputs, decision in config.decisions.items():
            lengths = {len(decision.slope), len(decision.intercept), len(decision.thresholds)}
            if lengths != {len(config.genres)}:
                raise BundleError(f"{CONFIG}: decisions for {inputs} do not have one number a genre; get it again")
        return config


def _branch(value: Any) -> Branch:
    branch = Branch(**value)
    for text in (branch.name, branch.kind, branch.graph, branch.encoder):
        _typed(text, str)
    _typed(branch.options, dict)
    if branch.input not in ("plot", "poster"):
        raise ValueError(f"a branch cannot read {branch.input!r}")
    if _typed(branch.width, int) < 1:
        raise ValueError(f"a branch cannot have {branch.width} features")
    return branch


def _typed(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value


def _number(value: Any) -> float:
    number = float(value)
    if not abs(number) <= LARGEST:  # neither is NaN
        raise ValueError(f"{number} is not between ±{LARGEST}")
    return number


class Bundle:
    """A bundle on disk, opened and checked.

    Attributes:
        path: the folder that it is read from: the one asked for, or where that lies while it is replaced.
        config: the content of bundle.json.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        """Open the bundle in `path`.

        Args:
            path: the folder.
            check: compare every file that is read with the manifest's SHA-256 when it is read.

        Raises:
            UsageError: the folder does not exist or is not a bundle.
            BundleError: the bundle is damaged or of a newer format.
        """
        path = _found(path)
        self.path = path
        self._check = check
        self._ahead: dict[str, _Ahead] = {}
        if not path.is_dir():
            raise UsageError(f"no bundle at {path}: the folder does not exist; give the folder of a bundle")
        try:
            manifest = json.loads(read_file(path / MANIFEST, MAX_MANIFEST).decode("utf-8"))
        except FileNotFoundError:
            inner = path / "bundle"
            if (inner / MANIFEST).is_file():
                raise UsageError(f"{path} is a training's folder; its bundle is {inner}: give that") from None
            raise UsageError(f"{path} is not a bundle: it has no {MANIFEST}; give a bundle's folder") from None
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path / MANIFEST} cannot be read ({error}); get the bundle again") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise BundleError(f"{path / MANIFEST} is not the manifest of a bundle; get the bundle again")
        self.format_version = _parse_version(manifest.get("format_version"), path)
        files = manifest.get("files")
        if not isinstance(files, dict) or not all(_is_entry(name, entry) for name, entry in files.items()):
            raise BundleError(f"{path / MANIFEST} has a broken list of files; get the bundle again")
        self.files: dict[str, dict[str, Any]] = files
        try:
            config = json.loads(self.read(CONFIG))
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{path / CONFIG} is not JSON ({error}); get the bundle again") from error
        self.config = BundleConfig.from_json(config)

    def read_ahead(self, names: Iterable[str]) -> None:
        """Start to read and check files beside other work. The first `read` of each waits for that and takes it."""
        for name in names:
            self._ahead[name] = _Ahead(self, name)
            self._ahead[name].start()

    def read(self, name: str) -> bytes:
        """The bytes of one of the bundle's files, checked against the manifest.

        Raises:
            BundleError: the file is not in the manifest, is missing, or differs from its SHA-256.
        """
        ahead = self._ahead.pop(name, None)
        if ahead is not None:
            ahead.join()
            if ahead.content is not None:
                return ahead.content
        return self._read(name, check=self._check)

    def _read(self, name: str, *, check: bool) -> bytes:
        entry = self.files.get(name)
        if entry is None:
            raise BundleError(f"{self.path} has no file {name} in its {MANIFEST}; get the bundle again")
        try:
            # Not a byte more than there should be: the sum then tells a longer file.
            content = read_file(self.path / name, entry["bytes"] if check else sys.maxsize)
        except OSError as error:
            why = error.strerror or error
            raise BundleError(f"{self.path / name} cannot be read ({why}); get the bundle again") from error
        if check:
            _check_sum(content, entry, self.path / name)
        return content

    def copy_to(self, folder: Path, without: Container[str] = ()) -> None:
        """Write the files, but those named in `without`, into a folder. Raises BundleError as `read` does."""
        for name in self.files:
            if name not in without:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(self.read(name))

    def card(self) -> dict[str, Any]:
        """The model card as data: where the bundle comes from and what it was measured to do."""
        value: dict[str, Any] = json.loads(self.read(CARD_JSON)) if CARD_JSON in self.files else {}
        return value

    def check(self) -> list[str]:
        """Compare every file with the manifest. Returns one line a problem; none when the bundle is whole."""
        problems = []
        for name in self.files:
            try:
                self._read(name, check=True)
            except BundleError as error:
                problems.append(str(error))
        return problems


class _Ahead(Thread):
    """Reads one file of a bundle; `content` stays None where that fails, and the next `read` says why."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        super().__init__(name="mmgcs-read", daemon=True)
        self._bundle = bundle
        self._file = name
        self.content: bytes | None = None

    def run(self) -> None:
        with suppress(BundleError):
            self.content = self._bundle._read(self._file, check=self._bundle._check)


def write_bundle(path: Path, config: BundleConfig, fill: Callable[[Path], None], *, replace: bool = False) -> Bundle:
    """Write a bundle whole or not at all.

    Args:
        path: the folder to make.
        config: the content of bundle.json.
        fill: puts the graphs, tokenizers and card into the folder it is given.
        replace: an existing bundle at `path` is replaced; without it, it is an error.

    Raises:
        UsageError: `path` exists and `replace` is not given, or it is a folder that is not a bundle.
    """
    if path.exists() and not (path / MANIFEST).is_file() and any(path.iterdir() if path.is_dir() else [path]):
        raise UsageError(f"{path} exists and is not a bundle; choose another --out")
    if not replace and (_found(path) / MANIFEST).is_file():
        raise UsageError(f"{_found(path)} already holds a bundle; choose another --out or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        fill(temporary)
        write_json(temporary / CONFIG, config.to_json())
        seal(temporary)
        bundle = Bundle(temporary)
        temporary.chmod(0o755)
        _put_in_place(temporary, path, replace)
        bundle.path = path
        return bundle
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _put_in_place(made: Path, path: Path, replace: bool) -> None:
    """Rename a finished bundle to `path`; what was there stays until then, and comes back if that fails."""
    old = _aside(path)
    if replace and path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    else:
        with suppress(OSError):  # an empty folder: Windows renames nothing onto it
            path.rmdir()
    try:
        made.rename(path)
    except BaseException as error:
        if old.exists() and not path.exists():
            old.rename(path)
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UsageError(f"another mmgcs has written {path} meanwhile; choose another --out") from None
        raise
    shutil.rmtree(old, ignore_errors=True)


def _aside(path: Path) -> Path:
    """Where the old bundle lies between the two renames that replace it."""
    return path.with_name(f".{path.name}.old")


def _found(path: Path) -> Path:
    """Where the bundle of `path` lies; a writer that was killed between its renames left it aside."""
    # It is not put back: the writer may be alive and about to rename. The next one removes it.
    return _aside(path) if not path.exists() and _aside(path).is_dir() else path


def seal(path: Path) -> None:
    """Write the manifest of every file that lies in the folder `path`."""
    files = {
        file.relative_to(path).as_posix(): {"sha256": sha256(file), "bytes": file.stat().st_size}
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    version = ".".join(map(str, FORMAT_VERSION))
    write_json(path / MANIFEST, {"format": FORMAT, "format_version": version, "files": files})


def _is_entry(name: Any, entry: Any) -> bool:
    # A name that leads out of the folder would let a bundle read any file.
    sound = isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and isinstance(entry.get("bytes"), int)
    return is_inside(name) and sound and entry["bytes"] >= 0


def _check_sum(content: bytes, entry: Mapping[str, Any], path: Path) -> None:
    if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise BundleError(f"{path} differs from its SHA-256 in {MANIFEST}: the file was changed; get the bundle again")


def _parse_version(text: Any, path: Path) -> tuple[int, int]:
    try:
        major, minor = (int(part) for part in str(text).split("."))
        if major < 1 or minor < 0:
            raise ValueError("there was no such version")
    except ValueError:
        raise BundleError(f"{path / MANIFEST} has format version {text!r}; get the bundle again") from None
    if major > FORMAT_VERSION[0]:
        raise BundleError(
            f"{path} is of bundle format {text}, this mmgcs reads up to {FORMAT_VERSION[0]}.x; upgrade mmgcs"
        )
    return major, minor
