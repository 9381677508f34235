"""Where photos come from: the catalogue of sources, verified downloads, readers, and the drawn sample."""
