"""Training on cached activations: start at fitting.py, then phases.py, then epochs.py."""
