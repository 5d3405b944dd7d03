"""Bundles: trained models as files, the only thing that training hands over to prediction.

A bundle is a folder of ONNX graphs, JSON and a model card. `manifest.json` has the format version, and the SHA-256 and
size of every other file. `bundle.json` holds what a prediction needs besides the graphs. This module needs neither
torch nor onnxruntime. docs/reference/bundle-format.md describes every key.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mmgcs.errors import BundleError, UsageError
from mmgcs.files import is_inside, read_file, sha256, write_json
from mmgcs.wording import plain

FORMAT = "mmgcs-bundle"
FORMAT_VERSION = (1, 0)
MANIFEST = "manifest.json"
CONFIG = "bundle.json"
CARD_JSON = "card.json"
CARD_TEXT = "CARD.md"

DEFAULT_BUNDLE = Path(__file__).parent / "bundles" / "default"
"""The bundle that comes with the package."""

LARGEST = 1_000_000
"""The largest number allowed in a configuration, because graphs and decisions use single precision."""

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]

GET_AGAIN = "download or export the bundle again"
# The protobuf key "location" of a tensor whose data is in another file; numbers may be padded.
_EXTERNAL = re.compile(rb"(?:\x0a|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)location")


@dataclass(frozen=True, slots=True)
class Branch:
    """One encoder: its input, its preprocessing, and the graph that computes features."""

    name: str  # also the name of the fusion graph's input for these features
    input: Literal["plot", "poster"]  # the part of a film that it reads
    kind: str  # the preprocessing, a name in `mmgcs.preprocess.PREPROCESSORS`
    options: Mapping[str, Any]  # the preprocessing's settings (tokenizer file, lengths, sizes)
    graph: str  # the ONNX file, from the prepared arrays to `features` of shape (batch, width)
    width: Annotated[int, Field(ge=1, le=LARGEST)]  # the number of features
    encoder: str  # the encoder's name, for the card and for explanations


@dataclass(frozen=True, slots=True)
class Decision:
    """Turns logits into a prediction for one combination of inputs. Tuples have one entry per genre."""

    slope: tuple[Number, ...]  # Platt scaling (Platt 1999), probability = sigmoid(slope · logit + intercept)
    intercept: tuple[Number, ...]
    thresholds: tuple[Number, ...]  # a genre is chosen if its probability reaches its threshold
    confidence: Number  # predictions with a lower confidence are marked as not sure
    # genres with at least this probability form the prediction set, which holds all of a film's genres for 90% of films
    # (see `mmgcs.evaluation.calibration.fit_possible`); None if the bundle has no such sets
    possible: Number | None = None
    # a genre whose probability is closer to its threshold than this, in log-odds, is undecided (see
    # `mmgcs.evaluation.calibration.fit_decision`); None if the bundle leaves no genre undecided
    margin: Number | None = None


@dataclass(frozen=True, slots=True)
class BundleConfig:
    """The content of bundle.json: what a prediction needs besides the graphs."""

    name: str
    genres: Annotated[tuple[str, ...], Field(min_length=1)]  # the genres, in the order of every array
    branches: Annotated[tuple[Branch, ...], Field(min_length=1)]
    fusion: str  # the ONNX file from the branches' features and `present` (batch, branches) to `logits` (batch, genres)
    # the decision for each combination of inputs ("plot", "poster", "plot+poster")
    decisions: Mapping[str, Decision]
    extra: Mapping[str, Any] = field(default_factory=dict)  # for keys that later minor versions add
    # ISO 639-1 codes of the languages it reads; plots in others get a warning and are never sure
    languages: tuple[str, ...] = ("en",)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that the bundle reads: "plot", "poster" or both, in that order."""
        read = {branch.input for branch in self.branches}
        return tuple(name for name in ("plot", "poster") if name in read)

    def to_json(self) -> dict[str, Any]:
        """Return the content of bundle.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> BundleConfig:
        """Read the content of bundle.json.

        Raises:
            BundleError: a key is missing or invalid, or the numbers do not match the genres and inputs.
        """
        try:
            config = _adapter().validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(part)[:60] for part in first["loc"]) or "its content"
            raise BundleError(f"{CONFIG}: {where} {plain(first['msg'])}; {GET_AGAIN}") from error
        for what, names in (("genres", config.genres), ("branches", [branch.name for branch in config.branches])):
            if len(set(names)) < len(names):
                raise BundleError(f"{CONFIG} names one of its {what} twice; {GET_AGAIN}")
        missing = set(input_combinations(config.inputs)) - set(config.decisions)
        if missing:
            raise BundleError(f"{CONFIG} has no decision for {' and '.join(sorted(missing))}; {GET_AGAIN}")
        for inputs, decision in config.decisions.items():
            lengths = {len(decision.slope), len(decision.intercept), len(decision.thresholds)}
            if lengths != {len(config.genres)}:
                raise BundleError(f"{CONFIG}: decisions for {inputs} need one number per genre; {GET_AGAIN}")
        return config


def input_combinations(inputs: Sequence[str]) -> list[str]:
    """Return the combinations of inputs that need a decision: each alone, and all together if there are several."""
    return [*inputs, "+".join(inputs)] if len(inputs) > 1 else list(inputs)


@cache
def _adapter() -> TypeAdapter[BundleConfig]:
    return TypeAdapter(BundleConfig)


class Bundle:
    """A bundle on disk, opened and checked.

    Attributes:
        path: the folder it is read from; that of the old bundle while another process is replacing it.
        config: the content of bundle.json.
        files: the size and SHA-256 of each file, from the manifest.
    """

    def __init__(self, path: Path) -> None:
        """Open the bundle in a folder.

        Raises:
            UsageError: the folder does not exist or is not a bundle.
            BundleError: the bundle is damaged, or its format is too new.
        """
        self.path = _find(path)
        self._ahead: dict[str, Future[bytes]] = {}
        self.files, self.format_version = read_manifest(self.path)
        self.config = BundleConfig.from_json(self._read_json(CONFIG))

    def read_ahead(self, names: Iterable[str]) -> None:
        """Start reading and checking files in the background; the first `read` of each waits for it."""
        pool = ThreadPoolExecutor(thread_name_prefix="mmgcs-read")
        self._ahead = {name: pool.submit(self._read, name) for name in names}
        pool.shutdown(wait=False)

    def read(self, name: str) -> bytes:
        """Return the bytes of one of the bundle's files, checked against the manifest.

        Raises:
            BundleError: the file is not in the manifest, is missing, differs from its SHA-256, or is an ONNX graph
                with tensors in other files.
        """
        ahead = self._ahead.pop(name, None)
        return self._read(name) if ahead is None else ahead.result()

    def _read(self, name: str) -> bytes:
        entry = self.files.get(name)
        if entry is None:
            raise BundleError(f"{self.path} has no file {name} in its {MANIFEST}; {GET_AGAIN}")
        path = self.path / name
        try:
            content = read_file(path, entry["bytes"])
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror or error}); {GET_AGAIN}") from error
        if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise BundleError(f"{path} differs from its SHA-256 in {MANIFEST}: the file was changed; {GET_AGAIN}")
        # onnxruntime would read any file below the working directory. Looking for the key "location" of such a tensor
        # anywhere in the bytes needs no parser, and misses none.
        if name.endswith(".onnx") and b"location" in content and _EXTERNAL.search(content):
            raise BundleError(f"{path} keeps tensors in other files; export the graph with all its data inside")
        return content

    def _read_json(self, name: str) -> Any:
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{self.path / name} is not valid JSON ({error}); {GET_AGAIN}") from error

    def copy_to(self, folder: Path, without: Container[str] = ()) -> None:
        """Write all files except `without` into a folder. Raises BundleError as `read` does."""
        for name in self.files:
            if name not in without:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(self.read(name))

    def card(self) -> dict[str, Any]:
        """Return the model card as data: how the bundle was trained and how it scored; {} if it has no card.

        Raises:
            BundleError: it is not a JSON object.
        """
        if CARD_JSON not in self.files:
            return {}
        value = self._read_json(CARD_JSON)
        if not isinstance(value, dict):
            raise BundleError(f"{self.path / CARD_JSON} is not a JSON object; {GET_AGAIN}")
        return value

    def check(self) -> list[str]:
        """Compare every file with the manifest. Returns one line per problem."""
        problems = []
        for name in self.files:
            try:
                self._read(name)
            except BundleError as error:
                problems.append(str(error))
        return problems


def bundle_folder(path: str | Path | None) -> Path:
    """Return the folder of a bundle; None and "default" mean the one in the package."""
    if path is None or (str(path) == "default" and not Path(path).exists()):
        return DEFAULT_BUNDLE
    return Path(path)


def read_manifest(path: Path) -> tuple[dict[str, dict[str, Any]], tuple[int, int]]:
    """Return the size and SHA-256 of each file of a bundle, and its format version.

    Raises:
        UsageError: the folder does not exist or is not a bundle.
        BundleError: the manifest is damaged, or its format is too new.
    """
    if not path.is_dir():
        raise UsageError(f"no bundle at {path}: the folder does not exist; give the folder of a bundle")
    try:
        manifest = json.loads(read_file(path / MANIFEST, 16 * 2**20).decode("utf-8"))
    except FileNotFoundError:
        inner = path / "bundle"
        if (inner / MANIFEST).is_file():
            raise UsageError(f"{path} is the folder of a training run; give its bundle, {inner}") from None
        raise UsageError(f"{path} is not a bundle: it has no {MANIFEST}; give a bundle's folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path / MANIFEST} cannot be read ({error}); {GET_AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path / MANIFEST} is not the manifest of a bundle; {GET_AGAIN}")
    text, files = manifest.get("format_version"), manifest.get("files")
    version = re.fullmatch(r"([1-9]\d{0,8})\.(\d{1,9})", str(text))
    if version is None:
        raise BundleError(f"{path / MANIFEST} has format version {text!r}; {GET_AGAIN}")
    if int(version[1]) > FORMAT_VERSION[0]:
        newest = f"{FORMAT_VERSION[0]}.x"
        raise BundleError(f"{path} has bundle format {text}, but this mmgcs reads up to {newest}; upgrade mmgcs")
    if not isinstance(files, dict) or not all(_is_entry(name, entry) for name, entry in files.items()):
        raise BundleError(f"{path / MANIFEST} has a broken list of files; {GET_AGAIN}")
    return files, (int(version[1]), int(version[2]))


def write_bundle(
    path: Path, config: BundleConfig | None, fill: Callable[[Path], None], *, replace: bool = False
) -> Bundle:
    """Write a complete bundle, or nothing.

    Args:
        path: the folder to make.
        config: the content of bundle.json; None if `fill` also writes that and the manifest.
        fill: writes the graphs, tokenizers and card into a given folder.
        replace: True to replace an existing bundle.

    Raises:
        UsageError: there is a bundle and `replace` is False, or `path` holds something else.
    """
    if path.exists() and not (path / MANIFEST).is_file() and any(path.iterdir() if path.is_dir() else [path]):
        raise UsageError(f"{path} exists and is not a bundle; choose another --out")
    if not replace and (_find(path) / MANIFEST).is_file():
        raise UsageError(f"{_find(path)} already holds a bundle; choose another --out or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        fill(temporary)
        if config is not None:
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
    """Rename a finished bundle to `path`. The old bundle is put back if that fails."""
    old = _aside(path)
    if replace and path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    else:
        with suppress(OSError):  # an empty folder: Windows cannot rename onto it
            path.rmdir()
    try:
        made.rename(path)
    except BaseException as error:
        if old.exists() and not path.exists():
            old.rename(path)
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UsageError(f"another mmgcs has written {path} in the meantime; choose another --out") from None
        raise
    shutil.rmtree(old, ignore_errors=True)


def _aside(path: Path) -> Path:
    """Return where the old bundle is kept between the two renames that replace it."""
    return path.with_name(f".{path.name}.old")


def _find(path: Path) -> Path:
    """Return the folder of the bundle, or of the old one if a process was killed between the two renames."""
    # It is not moved back, since that process may still be running. The next one that writes removes it.
    return _aside(path) if not path.exists() and _aside(path).is_dir() else path


def seal(path: Path) -> None:
    """Write the manifest for all files in a folder."""
    files = {
        file.relative_to(path).as_posix(): {"sha256": sha256(file), "bytes": file.stat().st_size}
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    version = ".".join(map(str, FORMAT_VERSION))
    write_json(path / MANIFEST, {"format": FORMAT, "format_version": version, "files": files})


def _is_entry(name: Any, entry: Any) -> bool:
    # A name that leads out of the folder would let a bundle read any file.
    valid = isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and isinstance(entry.get("bytes"), int)
    return valid and entry["bytes"] >= 0 and is_inside(name)
