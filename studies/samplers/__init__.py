"""Sample quality against network evaluations: what `studies/compare_samplers.py` is made of."""
