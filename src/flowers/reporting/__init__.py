"""Reports of a result: figures, tables and pages."""
