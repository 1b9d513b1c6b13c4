"""The page about a trained classifier: one HTML file that needs nothing else."""

from framecnn.report.page import Prototype, ReportData, write_report

__all__ = ["Prototype", "ReportData", "write_report"]
