"""Measure models, and fit the decisions that turn logits into predictions."""

from mmgcs.evaluation.baseline import TfidfBaseline
from mmgcs.evaluation.calibration import fit_decision
from mmgcs.evaluation.ensemble import WEIGHINGS, fit_blend
from mmgcs.evaluation.metrics import average_precision, macro_average_precision
from mmgcs.evaluation.pictures import fit_pictures
from mmgcs.evaluation.render import report_paths, to_markdown, write_report
from mmgcs.evaluation.report import Report, evaluate

__all__ = [
    "WEIGHINGS",
    "Report",
    "TfidfBaseline",
    "average_precision",
    "evaluate",
    "fit_blend",
    "fit_decision",
    "fit_pictures",
    "macro_average_precision",
    "report_paths",
    "to_markdown",
    "write_report",
]
