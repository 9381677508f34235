"""Tuning: Optuna studies over the parameters of the training; `run.tune` is the command."""
