"""What a deployment installs is named by version and SHA-256, and is what the package asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy" / "requirements.txt"


def locked() -> dict[str, list[tuple[Requirement, list[str]]]]:
    """The lock's packages: each with its requirement for each kind of machine, and its hashes."""
    found: dict[str, list[tuple[Requirement, list[str]]]] = {}
    text = re.sub(r"^#.*\n", "", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for entry in text.replace("\\\n", " ").splitlines():
        line, *hashes = entry.split("--hash=")
        requirement = Requirement(line.strip())
        found.setdefault(canonicalize_name(requirement.name), []).append((requirement, [one.strip() for one in hashes]))
    return found


def test_every_package_has_one_version_for_each_machine_and_its_hashes() -> None:
    for entries in locked().values():
        for requirement, hashes in entries:
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
            assert hashes, requirement
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


def test_the_lock_meets_what_the_running_side_asks_for_and_has_nothing_of_training() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = locked()
    for text in project["dependencies"]:
        wanted = Requirement(text)
        for requirement, _ in versions[canonicalize_name(wanted.name)]:
            version = str(requirement.specifier).removeprefix("==")
            assert wanted.specifier.contains(Version(version)), f"{wanted} is locked at {version}: make lock"
    trained = {canonicalize_name(Requirement(text).name) for text in project["optional-dependencies"]["train"]}
    assert not {"torch", "transformers", "scikit-learn", "pytorch-lightning"} & set(versions)
    assert not (trained - {"jinja2", "markupsafe", "pyyaml"}) & set(versions)


def test_no_address_or_path_of_a_machine_is_in_it() -> None:
    text = LOCK.read_text(encoding="utf-8")
    assert not re.search(r"://|--index|--find-links|--extra-index|/(?:home|opt|tmp|root|work)/", text)
