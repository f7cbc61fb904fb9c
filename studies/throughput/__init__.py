"""Speed of the backends and of their peers: what `studies/compare_throughput.py` is made of."""
