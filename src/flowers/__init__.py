"""Teach a Keras ResNet50 to recognise flowers, with every experiment reproducible, tracked and comparable."""
