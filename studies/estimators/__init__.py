"""Estimators of the bound against network evaluations: what `studies/compare_estimators.py` is made of."""
