"""params.yaml as strict typed objects, its editing, recipes, and the constants that values are checked against."""
