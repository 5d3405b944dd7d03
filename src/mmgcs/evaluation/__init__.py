"""Measuring a model, and fitting what turns its logits into decisions."""

from mmgcs.evaluation.calibration import confidences, fit_confidence, fit_decision, fit_platt
from mmgcs.evaluation.domain import add_domain, fit_domain
from mmgcs.evaluation.metrics import Estimate, GenreScores, Scores, average_precision, choose, compare, score
from mmgcs.evaluation.render import fill_template, to_markdown, write_report
from mmgcs.evaluation.report import Report, evaluate
from mmgcs.evaluation.thresholds import fit_thresholds

__all__ = [
    "Estimate",
    "GenreScores",
    "Report",
    "Scores",
    "add_domain",
    "average_precision",
    "choose",
    "compare",
    "confidences",
    "evaluate",
    "fill_template",
    "fit_confidence",
    "fit_decision",
    "fit_domain",
    "fit_platt",
    "fit_thresholds",
    "score",
    "to_markdown",
    "write_report",
]
