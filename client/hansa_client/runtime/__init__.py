"""The processes of a shop, and what they demand before anything runs or leaves."""
