"""The network: its weights, the frozen backbone, the trainable part, the classifier, Grad-CAM."""
