"""The settings of one phase of a training, and its learning rates."""

from dataclasses import dataclass

import numpy as np

from flowers.config.params import TrainParams


@dataclass(frozen=True)
class Schedule:
    """One phase: at most `epochs`; with validation it ends `train.patience` epochs after the best one."""

    phase: str
    epochs: int
    learning_rate: float
    train: TrainParams  # what the phases share

    def rates(self, epoch: int, steps: int) -> np.ndarray:
        """Learning rates of the `steps` steps of an epoch, numbered from 0 in the phase: (steps,) float64.

        They rise linearly over the warm-up, then stay constant or follow a half cosine to 0 at the end of the phase
        (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
        """
        step = epoch * steps + np.arange(steps)
        warmup, total = self.train.warmup_epochs * steps, self.epochs * steps
        rates = np.full(steps, self.learning_rate)
        if self.train.schedule == "cosine":
            rates *= (1 + np.cos(np.pi * np.clip((step - warmup) / max(total - warmup, 1), 0, 1))) / 2
        return np.where(step < warmup, self.learning_rate * (step + 1) / (warmup + 1), rates)
