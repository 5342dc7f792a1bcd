"""A real league on this machine: coordinator, proxy, shops and their databases, by Hansa's own commands."""
