"""Comparison: two or more results on the same photos, wherever they are kept, and whether chance explains them."""
