"""Any number of photos through a model, into Parquet: on this machine, or with Spark on many."""
