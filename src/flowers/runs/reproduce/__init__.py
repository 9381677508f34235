"""Reproduction: a run made again from its commit, images and parameters, and compared output by output."""
