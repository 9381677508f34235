"""Inference with a trained model: command line, HTTP, exports, batch scoring."""
