"""Find out what is installed, what is missing, and which command fixes it.

Works on a broken installation: package versions come from metadata, and onnxruntime, torch and the model are tried in
another process.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mmgcs.machine import cores

PACKAGE = "mmgcs"
EXTRAS = {
    "train": "training, evaluation and data preparation",
    "db": "tagging database tables",
    "excel": "reading .xlsx workbooks",
    "cloud": "tables in object stores",
    "hub": "data sets and bundles on the Hugging Face hub",
    "scale": "tagging on several machines",
    "weights": "pretrained weights for training offline",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    state: str  # "ok", "missing" (optional), or "wrong" (prediction needs it)
    detail: str
    fix: str | None = None  # the command or step that fixes it


@dataclass(frozen=True, slots=True)
class Package:
    """A package that mmgcs or one of its extras requires."""

    name: str
    limits: str  # the versions allowed, such as ">=2.0"
    extra: str | None  # None if prediction needs it
    found: str | None  # the installed version

    @property
    def met(self) -> bool:
        """True if an allowed version is installed."""
        return self.found is not None and SpecifierSet(self.limits).contains(self.found, prereleases=True)

    def __str__(self) -> str:
        return f"{self.name} {self.found or 'is missing'}" + ("" if self.met or not self.found else " is too old")


def needed_packages() -> list[Package]:
    """Return the packages that mmgcs and its extras require, with the installed version of each."""
    found = []
    for requirement in map(Requirement, importlib.metadata.requires(PACKAGE) or []):
        marker = requirement.marker
        extra = next((name for name in EXTRAS if marker and f'"{name}"' in str(marker)), None)
        if marker is None or marker.evaluate({"extra": extra or ""}):
            version = _installed(requirement.name)
            found.append(Package(requirement.name, str(requirement.specifier), extra, version))
    return found


def examine() -> list[Finding]:
    """Check Python, the machine, the current folder's disk, packages, extras and the model."""
    findings = [Finding("Python", "ok", f"{platform.python_version()}, {sys.executable}"), _machine(), _disk()]
    version = _installed(PACKAGE)
    if version is None:
        return [*findings, Finding(PACKAGE, "wrong", "runs from a source folder and is not installed", "pip install .")]
    needed = needed_packages()
    running = [item for item in needed if item.extra is None]
    lacking = [item for item in running if not item.met]
    packages = Finding("packages", "ok", ", ".join(map(str, running)))
    if lacking:
        fix = " ".join(["pip install", *(f'"{item.name}{item.limits}"' for item in lacking)])
        packages = Finding("packages", "wrong", ", ".join(map(str, lacking)), fix)
    findings += [Finding(PACKAGE, "ok", version), packages, _onnxruntime(), _gpu(), _torch(), _model()]
    return findings + [_extra(name, [item for item in needed if item.extra == name]) for name in EXTRAS]


def works(findings: list[Finding]) -> bool:
    """Return True if nothing that prediction needs is wrong."""
    return all(finding.state != "wrong" for finding in findings)


def _machine() -> Finding:
    detail = f"{platform.system()} {platform.machine()}, {cores()} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        detail += f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB memory"
    return Finding("machine", "ok", detail)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / 1e9:.1f} GB free in {Path.cwd()}"
    if free < 1e9:  # tagging or training may run out of space
        return Finding("disk", "missing", detail, "free at least 1 GB, or work on another disk")
    return Finding("disk", "ok", detail)


def _onnxruntime() -> Finding:
    version = _installed("onnxruntime") or _installed("onnxruntime-gpu")
    if version is None:
        return Finding("onnxruntime", "wrong", "is not installed", "pip install onnxruntime")
    answer, error = _ask("import json, onnxruntime as o; print(json.dumps(o.get_available_providers()))")
    if answer is None:
        fix = "pip install --force-reinstall onnxruntime"
        return Finding("onnxruntime", "wrong", f"{version} cannot be imported ({error})", fix)
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in answer)
    return Finding("onnxruntime", "ok", f"{version}, providers {names}; bundles run on CPU")


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("GPU", "ok", "no NVIDIA GPU; none is needed, training uses the CPU")
    command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return Finding("GPU", "missing", "nvidia-smi does not answer", "install or restart the NVIDIA driver")
    return Finding("GPU", "ok", "; ".join(done.stdout.strip().splitlines()) or "no NVIDIA GPU")


def _torch() -> Finding:
    version = _installed("torch")
    if version is None:
        return Finding("torch", "missing", "not installed; only training needs it", 'pip install "mmgcs[train]"')
    answer, error = _ask(
        "import json, torch; c = torch.cuda; n = c.device_count() if c.is_available() else 0; "
        "print(json.dumps([c.get_device_name(i) for i in range(n)]))"
    )
    again = "pip install --force-reinstall torch"
    if answer is None:
        return Finding("torch", "missing", f"{version} cannot be imported ({error})", again)
    if answer:
        return Finding("torch", "ok", f"{version} with CUDA on {', '.join(answer)}")
    if shutil.which("nvidia-smi") is not None:
        return Finding("torch", "missing", f"{version} cannot use the GPU", f"{again} (a build for your CUDA version)")
    return Finding("torch", "ok", f"{version}, on the CPU")


def _model() -> Finding:
    from mmgcs.bundle import DEFAULT_BUNDLE, Bundle
    from mmgcs.errors import MmgcsError

    again = "pip install --force-reinstall --no-deps mmgcs, or give --model a bundle from mmgcs train"
    try:
        bundle = Bundle(DEFAULT_BUNDLE)
        problems = bundle.check()
    except MmgcsError as error:
        problems = [str(error)]
    if problems:
        return Finding("default model", "wrong", problems[0], again)
    answer, reason = _ask(
        "import json, mmgcs; p = mmgcs.load().predict(plot='A vampire count preys on a village at night.'); "
        "print(json.dumps(list(p.genres)))"
    )
    if answer is None:
        return Finding("default model", "wrong", f"does not predict ({reason})", "run mmgcs verify for details")
    size, config = sum(entry["bytes"] for entry in bundle.files.values()), bundle.config
    parts = (config.name, f"{size / 1e6:.1f} MB", " and ".join(config.inputs), f"{len(config.genres)} genres")
    return Finding("default model", "ok", ", ".join(parts))


def _extra(name: str, items: list[Package]) -> Finding:
    lacking = [item for item in items if not item.met]
    if not lacking:
        return Finding(f"extra {name}", "ok", f"{EXTRAS[name]}: " + ", ".join(map(str, items)))
    state = "incomplete" if any(item.found for item in items) else "not installed"
    detail = f"{state} (optional); {EXTRAS[name]}: " + ", ".join(map(str, lacking))
    return Finding(f"extra {name}", "missing", detail, f'pip install "{PACKAGE}[{name}]"')


def _ask(code: str) -> tuple[list[str] | None, str]:
    """Run Python code that prints a JSON list in another process. Return the list, or None and the last error line."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)  # noqa: S603  our own code
        answer: list[str] = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
    except (ValueError, IndexError):
        lines = done.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"exit status {done.returncode}"
    return answer, ""


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
