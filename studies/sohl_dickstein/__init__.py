"""The 2015 study beyond its cells: what `studies/sohl_dickstein_2015.py` is made of."""
