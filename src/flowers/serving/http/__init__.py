"""Inference over HTTP: images in, predictions as JSON out, and a web page."""
