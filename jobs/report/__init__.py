"""What people read: the table in several dresses, and one self-contained page."""

from jobs.report.page import LINES, lines_of, write_report
from jobs.report.text import render_table

__all__ = ["LINES", "lines_of", "render_table", "write_report"]
