"""Pure numbers: scores, intervals, calibration, paired tests. Needs NumPy, pandas, SciPy and scikit-learn only."""
