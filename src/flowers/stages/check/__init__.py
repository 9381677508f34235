"""Checking the data: near-duplicates where they spoil a score, and labels that models of the other photos doubt."""
