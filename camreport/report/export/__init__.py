"""A report on disk for other programs: figures, tables, one archive, one document.

Everything is made from ``OUT/results`` and ``OUT/index.html``, without torch.
"""

from camreport.report.export.archive import count_packed, export_archive, own_data, remove_exports
from camreport.report.export.comparison import export_comparison
from camreport.report.export.fiftyone import FIFTYONE, export_fiftyone
from camreport.report.export.figures import (
    FIGURES,
    chosen_images,
    count_figures,
    export_figures,
)
from camreport.report.export.parquet import PARQUET, export_parquet
from camreport.report.export.pdf import DOCUMENT, export_document, is_outdated
from camreport.report.export.table import TABLE, export_table, export_tables
from camreport.report.export.tex import export_tex

__all__ = [
    "DOCUMENT",
    "FIFTYONE",
    "FIGURES",
    "PARQUET",
    "TABLE",
    "chosen_images",
    "count_figures",
    "count_packed",
    "export_archive",
    "export_comparison",
    "export_document",
    "export_fiftyone",
    "export_figures",
    "export_parquet",
    "export_table",
    "export_tables",
    "export_tex",
    "is_outdated",
    "own_data",
    "remove_exports",
]
