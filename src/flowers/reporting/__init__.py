"""What a person reads of a result: metrics, tables and figures."""
