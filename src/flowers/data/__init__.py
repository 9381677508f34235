"""Where images come from: the catalogue of data sets, verified downloads, readers, near-duplicates, pixels."""
