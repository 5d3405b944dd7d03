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

from mmgcs.machine import cores

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


def examine() -> list[Finding]:
    """Check Python, the machine, the current folder's disk, packages, extras and the model."""
    findings = [Finding("Python", "ok", f"{platform.python_version()}, {sys.executable}"), _machine(), _disk()]
    version = _installed("mmgcs")
    if version is None:
        return [*findings, Finding("mmgcs", "wrong", "runs from a source folder and is not installed", "pip install .")]
    needed = needed_packages()
    lacking = [item for item in needed[None] if not is_met(item, _installed(item.name))]
    packages = Finding("packages", "ok", _listed(needed[None]))
    if lacking:
        fix = " ".join(["pip install", *(f'"{item.name}{item.specifier}"' for item in lacking)])
        packages = Finding("packages", "wrong", _listed(lacking), fix)
    findings += [Finding("mmgcs", "ok", version), packages, _onnxruntime(), _gpu(), _torch(), _model()]
    return findings + [_extra(name, needed[name]) for name in EXTRAS]


def needed_packages() -> dict[str | None, list[Requirement]]:
    """Return what mmgcs (under None) and each of its extras require on this system."""
    needed: dict[str | None, list[Requirement]] = {name: [] for name in (None, *EXTRAS)}
    for requirement in map(Requirement, importlib.metadata.requires("mmgcs") or []):
        marker = requirement.marker
        extra = next((name for name in EXTRAS if marker and f'"{name}"' in str(marker)), None)
        if marker is None or marker.evaluate({"extra": extra or ""}):
            needed[extra].append(requirement)
    return needed


def is_met(requirement: Requirement, version: str | None) -> bool:
    """Return True if the installed version, None if there is none, is an allowed one."""
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _listed(requirements: list[Requirement]) -> str:
    """Return packages with their versions, or what is wrong with them."""
    versions = [(item, _installed(item.name)) for item in requirements]
    return ", ".join(
        f"{item.name} {version or 'is missing'}" + (" is too old" if version and not is_met(item, version) else "")
        for item, version in versions
    )


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


def _extra(name: str, needed: list[Requirement]) -> Finding:
    lacking = [item for item in needed if not is_met(item, _installed(item.name))]
    if not lacking:
        return Finding(f"extra {name}", "ok", f"{EXTRAS[name]}: {_listed(needed)}")
    state = "incomplete" if any(_installed(item.name) for item in needed) else "not installed"
    detail = f"{state} (optional); {EXTRAS[name]}: {_listed(lacking)}"
    return Finding(f"extra {name}", "missing", detail, f'pip install "mmgcs[{name}]"')


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
