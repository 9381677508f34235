"""Promotion: which model is the champion, and what another one must show to take its place."""
