"""Promotion: a run becomes champion of its data set if it passes checks on validation images."""
