"""Checking the data: near-duplicates across the split, and labels that models of the other images contradict."""
