"""Settings and checks before a shop takes part."""
