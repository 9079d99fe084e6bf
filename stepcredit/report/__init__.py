"""Report: views of a run, the offline page, the terminal view, and progress while a program works."""

from stepcredit.report.build import rollout_view
from stepcredit.report.page import write_report
from stepcredit.report.progress import Progress, SilentProgress, Task
from stepcredit.report.saved import dump_report, load_report
from stepcredit.report.terminal import terminal_report, terminal_solution, terminal_table
from stepcredit.report.views import (
    Cell,
    Estimate,
    PieceView,
    PlotView,
    ReportData,
    RolloutView,
    RuleView,
    SeriesView,
    StepView,
    TableView,
    ThoughtView,
    Truth,
    VotesView,
    XrayRow,
    XrayView,
    thoughts_of,
)

__all__ = [
    "Cell",
    "Estimate",
    "PieceView",
    "PlotView",
    "Progress",
    "ReportData",
    "RolloutView",
    "RuleView",
    "SeriesView",
    "SilentProgress",
    "StepView",
    "TableView",
    "Task",
    "ThoughtView",
    "Truth",
    "VotesView",
    "XrayRow",
    "XrayView",
    "dump_report",
    "load_report",
    "rollout_view",
    "terminal_report",
    "terminal_solution",
    "terminal_table",
    "thoughts_of",
    "write_report",
]
