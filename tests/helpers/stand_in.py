"""A stand-in for a trained model that gives probabilities and cannot tell unknown images."""

import numpy as np

from flowers.model.predicted import Predicted, predicted


class StandIn:
    """A base class: a derived one has `classes`, `threshold`, `size` and `probabilities(images)`."""

    examples = None

    def predict(self, images: np.ndarray) -> Predicted:
        return predicted(self.probabilities(images))
