"""What the report of a fitted classifier contains, and the report in one call."""

from framecnn.reporting.contents import report_data, write_training_report

__all__ = ["report_data", "write_training_report"]
