"""Networks exported to other formats: written, proved against the trained model, and used for inference."""
