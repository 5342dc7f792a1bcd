"""Recommenders: what a customer contributes, and how a shop scores with the result."""
