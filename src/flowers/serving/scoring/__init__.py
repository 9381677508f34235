"""Predictions for any number of images, written to Parquet: on this machine, or on a Spark cluster."""
