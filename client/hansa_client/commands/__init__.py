"""``hansa client``: thin commands, each a module."""
