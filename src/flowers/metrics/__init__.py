"""Pure numbers: scores, intervals, calibration, paired tests. Imports numpy, pandas, SciPy and scikit-learn only."""
