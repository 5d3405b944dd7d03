"""Measuring a model, and fitting what turns its logits into decisions."""

from mmgcs.evaluation.baseline import TfidfBaseline
from mmgcs.evaluation.calibration import confidences, fit_confidence, fit_decision, fit_platt
from mmgcs.evaluation.domain import add_pictures, fit_pictures
from mmgcs.evaluation.ensemble import WEIGHINGS, fit_blend
from mmgcs.evaluation.metrics import OVERALL, average_precision, choose
from mmgcs.evaluation.render import detailed, fill_template, report_paths, show, to_markdown, write_report
from mmgcs.evaluation.report import Report, evaluate
from mmgcs.evaluation.thresholds import fit_thresholds

__all__ = [
    "OVERALL",
    "WEIGHINGS",
    "Report",
    "TfidfBaseline",
    "add_pictures",
    "average_precision",
    "choose",
    "confidences",
    "detailed",
    "evaluate",
    "fill_template",
    "fit_blend",
    "fit_confidence",
    "fit_decision",
    "fit_pictures",
    "fit_platt",
    "fit_thresholds",
    "report_paths",
    "show",
    "to_markdown",
    "write_report",
]
