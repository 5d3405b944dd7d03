"""Bundles and tables of films on the Hugging Face hub.

The settings of huggingface_hub apply: HF_TOKEN or `hf auth login` for private repositories, HF_HOME for the cache,
HF_ENDPOINT for another hub, HF_HUB_OFFLINE to use only the cache.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmgcs.bundle import CARD_TEXT, MANIFEST, Bundle, read_manifest, write_bundle
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import atomic_path
from mmgcs.wording import MAIN_METRICS

SCHEME = "hf:"
"""The prefix of a data set's address: hf:owner/name or hf:owner/name@revision."""

_TABLES = ("*.parquet", "*.csv", "*.csv.gz", "*.csv.zst", "*.tsv", "*.jsonl", "*.jsonl.gz", "*.jsonl.zst", "*.json")
_SPLIT = re.compile(r"(?:^|[-_./])(train|test|valid|validation|val|dev)(?=[-_./]|$)", re.IGNORECASE)


def fetch_dataset(address: str) -> Path:
    """Download the tables of a data set and return their folder.

    The films of a file for one split, such as `data/train-00000-of-00001.parquet`, get that `split` if they have none.

    Args:
        address: hf:owner/name, or hf:owner/name@revision.

    Raises:
        UsageError: the address is not valid, or the data set has no tables.
        MmgcsError: it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download
    from platformdirs import user_cache_path

    repo, _, revision = address.removeprefix(SCHEME).partition("@")
    with _explained(address):
        found = snapshot_download(repo, repo_type="dataset", revision=revision or None, allow_patterns=list(_TABLES))
    source = Path(found)
    files = [file.relative_to(source) for file in sorted(source.rglob("*")) if file.is_file()]
    if not files:
        raise UsageError(f"{address} has no tables of films; known are Parquet, CSV, TSV and JSON Lines")
    folder = user_cache_path("mmgcs", appauthor=False) / "hub" / source.name / repo.replace("/", "--")
    for file in files:
        match = _SPLIT.search(file.as_posix())
        split = {"train": "train", "test": "test"}.get(match[1].lower(), "valid") if match else None
        target = folder / (f"split={split}" if split else "") / "--".join(file.parts)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link((source / file).resolve(), target)
            except OSError:  # another file system
                with atomic_path(target) as temporary:
                    shutil.copyfile(source / file, temporary)
    return folder


def push_bundle(path: Path, repo: str, *, private: bool = False, license_name: str | None = None) -> str:
    """Upload a bundle to a model repository, creating it if needed, and return its address.

    Args:
        path: the bundle's folder.
        repo: owner/name.
        private: True to make a new repository private.
        license_name: the license in the model card's metadata, such as "mit".

    Raises:
        UsageError: `path` is not a bundle, or `repo` is not a valid name.
        MmgcsError: the bundle is damaged, or cannot be uploaded.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    bundle = Bundle(path)
    if problems := bundle.check():
        raise MmgcsError(problems[0])
    card = model_card(bundle, license_name).encode()
    uploads = [CommitOperationAdd(name, str(bundle.path / name)) for name in (*bundle.files, MANIFEST)]
    api = HfApi()
    with _explained(repo):
        url = api.create_repo(repo, private=private, exist_ok=True)
        message = f"mmgcs push {bundle.config.name}"
        api.create_commit(repo, [*uploads, CommitOperationAdd("README.md", card)], commit_message=message)
    return str(url)


def pull_bundle(repo: str, out: Path, *, replace: bool = False) -> Bundle:
    """Download a bundle from a model repository, check every file, and write it to a folder.

    Args:
        repo: owner/name, or owner/name@revision.
        out: the folder to create.
        replace: True to replace an existing bundle there.

    Raises:
        UsageError: `repo` is not a valid name, or `out` exists.
        MmgcsError: the repository holds no bundle, or it cannot be downloaded or is damaged.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    name, _, revision = repo.partition("@")
    with _explained(repo):
        manifest = Path(hf_hub_download(name, MANIFEST, revision=revision or None))
        listed, _ = read_manifest(manifest.parent)
        commit = manifest.parent.name
        found = snapshot_download(name, revision=commit, allow_patterns=[MANIFEST, *listed])
    bundle = Bundle(Path(found))

    def fill(folder: Path) -> None:
        bundle.copy_to(folder)
        shutil.copyfile(bundle.path / MANIFEST, folder / MANIFEST)

    return write_bundle(out, None, fill, replace=replace)


def model_card(bundle: Bundle, license_name: str | None = None) -> str:
    """Return a bundle's model card with the metadata that the hub reads: library, inputs, languages and scores."""
    from huggingface_hub import EvalResult, ModelCardData

    card = bundle.card()
    results = [
        EvalResult(
            task_type="text-classification" if "plot" in condition["name"] else "image-classification",
            dataset_type="films",
            dataset_name=f"{condition['tuned']['films']:,} films, {condition['name']}",
            dataset_split=str(card["evaluation"].get("split", "test")),
            metric_type="f1" if metric.endswith("f1") else "mean_average_precision",
            metric_name=title,
            metric_value=round(condition["tuned"][metric]["value"], 4),
        )
        for condition in (card.get("evaluation") or {}).get("conditions", [])
        for metric, title in MAIN_METRICS.items()
        if condition["tuned"].get(metric, {}).get("value") is not None
    ]
    data = ModelCardData(
        model_name=bundle.config.name,
        library_name="mmgcs",
        license=license_name,
        language=list(bundle.config.languages) if "plot" in bundle.config.inputs else None,
        pipeline_tag="text-classification" if "plot" in bundle.config.inputs else "image-classification",
        tags=["onnx", "film", "movie", "genre-classification", *bundle.config.inputs],
        eval_results=results or None,
    )
    text = bundle.read(CARD_TEXT).decode() if CARD_TEXT in bundle.files else f"# {bundle.config.name}\n"
    return f"---\n{data.to_yaml()}\n---\n\n{text}"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Shorten the library's errors to one line, and show its progress bars only in a terminal."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"{what!r} is not a repository of the Hugging Face hub; write it like owner/name") from error
    except RepositoryNotFoundError as error:
        raise MmgcsError(f"the hub has no {what} that you can read; check the name, and HF_TOKEN if private") from error
    except LocalEntryNotFoundError as error:
        raise MmgcsError(f"{what} is not in the cache and the hub cannot be reached; check the network") from error
    except EntryNotFoundError as error:
        raise MmgcsError(f"{what} is not a bundle: it has no {MANIFEST}; check the name") from error
    except (HfHubHTTPError, OSError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MmgcsError(f"{what}: the hub refused or failed ({reason.strip()}); try again") from error
