"""The report of `mmgcs train-all`: every model's scores, checks and curves as JSON, Markdown and one HTML page."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from mmgcs.bundle import MANIFEST, Bundle
from mmgcs.evaluation import fill_template
from mmgcs.files import atomic_writer, sha256, write_json
from mmgcs.training.trainer import read_curve

METRICS = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "mean_average_precision": "mAP"}
_TEMPLATES = Path(__file__).parent / "templates"


def report_is_current(out: Path, names: list[str]) -> bool:
    """Return True if the report in `out` is about the bundles that are there now."""
    try:
        told = json.loads((out / "report.json").read_text(encoding="utf-8"))
        made = {model["recipe"]: model["manifest_sha256"] for model in told["models"]}
        written = (out / "report.html").is_file() and (out / "report.md").is_file()
        return written and made == {name: sha256(out / name / "bundle" / MANIFEST) for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_summary(out: Path, names: list[str]) -> None:
    """Write report.json, report.md and report.html into `out` from what the steps left there."""
    data = json.loads((out / "data.json").read_text(encoding="utf-8"))
    report = {"data": data, "models": [_model(out, name) for name in names]}
    pictures = {
        picture: base64.b64encode((out / picture).read_bytes()).decode()
        for model in report["models"]
        for picture in model["pictures"]
    }
    filters = {"score": lambda value: "–" if value["value"] is None else f"{value['value']:.3f}"}
    for kind in ("md", "html"):
        template = _TEMPLATES / f"all.{kind}.j2"
        with atomic_writer(out / f"report.{kind}") as handle:
            handle.write(fill_template(template, filters, report=report, metrics=METRICS, pictures=pictures))
    write_json(out / "report.json", report)  # last: a report without it is incomplete


def _model(out: Path, name: str) -> dict[str, Any]:
    folder = out / name
    bundle = Bundle(folder / "bundle")
    evaluation = json.loads((folder / "evaluation" / "report.json").read_text(encoding="utf-8"))
    checks = json.loads((folder / "verify.json").read_text(encoding="utf-8"))["checks"]
    scores = [
        {
            "films": condition["name"],
            "count": condition["tuned"]["films"],
            **{metric: condition["tuned"][metric] for metric in METRICS},
        }
        for condition in evaluation["conditions"]
    ]
    curves, pictures = {}, []
    for stage in ("plot", "poster", "fusion"):
        if (folder / stage / "curves").is_dir():
            curves[stage] = {column: read_curve(folder / stage, column) for column in ("train_loss", "valid_map")}
        if (folder / stage / "curves.png").is_file():
            pictures.append(f"{name}/{stage}/curves.png")
    return {
        "recipe": name,
        "bundle": f"{name}/bundle",
        "manifest_sha256": sha256(folder / "bundle" / MANIFEST),
        "bytes": sum(int(entry["bytes"]) for entry in bundle.files.values()),
        "evaluation": f"{name}/evaluation/report.html",
        "scores": scores,
        "checks": checks,
        "verified": all(check["passed"] for check in checks),
        "curves": curves,
        "pictures": pictures,
    }
