"""Secure aggregation: a coordinator learns the sum over shops of their vectors, and no single one of them."""
