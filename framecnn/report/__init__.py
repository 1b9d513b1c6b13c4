"""Pages about trained classifiers: HTML files that need nothing else."""

from framecnn.report.comparison import ComparisonData, ShownFrame, write_comparison
from framecnn.report.page import Prototype, ReportData, write_report
from framecnn.report.prediction import draw_prediction

__all__ = [
    "ComparisonData",
    "Prototype",
    "ReportData",
    "ShownFrame",
    "draw_prediction",
    "write_comparison",
    "write_report",
]
