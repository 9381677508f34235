"""Networks exported to int8 for OpenVINO: export, check and inference."""
