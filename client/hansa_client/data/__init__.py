"""A shop's own data, from its store to histories over the shared catalogue."""
