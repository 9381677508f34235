"""Comparison of two or more results on the same images: differences, and whether they are significant."""
