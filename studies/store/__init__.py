"""A run's folder: the factors of a cell, files that are written whole or not at all, and how a run is read."""
