"""The model at work, outside the pipeline."""
