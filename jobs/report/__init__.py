"""What people read: the table in several dresses, and one self-contained page."""

from jobs.report.page import write_report
from jobs.report.text import render_table

__all__ = ["render_table", "write_report"]
