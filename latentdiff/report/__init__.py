"""Several evaluations as one page that says whether the latent space paid off. Knows numbers and images, no model."""

from latentdiff.report.evaluation import Evaluation, ReportError, check_comparable, read_evaluation
from latentdiff.report.page import write_report
from latentdiff.report.table import Table, build_table
from latentdiff.report.verdict import verdict

__all__ = [
    "Evaluation",
    "ReportError",
    "Table",
    "build_table",
    "check_comparable",
    "read_evaluation",
    "verdict",
    "write_report",
]
