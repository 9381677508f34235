"""The network: weights, frozen backbone, trainable part, classifier, Grad-CAM."""
