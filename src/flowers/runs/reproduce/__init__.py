"""Reproduction: a run made again from its commit, its data and its parameters, and compared file by file."""
