"""Training on stored activations: the cache, epochs, optimizer, schedule, regression, fitting, checkpoints."""
