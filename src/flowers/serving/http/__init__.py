"""The model behind HTTP: photos in, answers as JSON out."""
