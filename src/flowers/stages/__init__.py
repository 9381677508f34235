"""The stages of dvc.yaml, one module each: they read files and parameters, and write files."""
