"""params.yaml as strict typed parameters, its editing, recipes, and the constants that values are checked against."""
