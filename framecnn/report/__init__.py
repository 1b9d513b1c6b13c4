"""Reports about trained classifiers, as HTML files that need no other file."""

from framecnn.report.comparison_report import Choice, ComparisonData, ShownFrame, write_comparison
from framecnn.report.contents import report_data, write_training_report
from framecnn.report.data import Evidence, Prototype, ReportData
from framecnn.report.prediction import draw_explanation, draw_prediction
from framecnn.report.training_report import write_report

__all__ = [
    "Choice",
    "ComparisonData",
    "Evidence",
    "Prototype",
    "ReportData",
    "ShownFrame",
    "draw_explanation",
    "draw_prediction",
    "report_data",
    "write_comparison",
    "write_report",
    "write_training_report",
]
