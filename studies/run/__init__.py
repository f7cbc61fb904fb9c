"""Processes that run cells, and who watches them."""
