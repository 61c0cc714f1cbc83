"""Shows batches, quality, figures, tables and lineage as HTML: a report in one file, and pages that stay live."""
