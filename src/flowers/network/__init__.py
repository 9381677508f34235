"""The network: its weights, the frozen trunk, the trained tail and head, stored activations, and training."""
