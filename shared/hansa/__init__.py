"""Hansa: shops train one recommender together; no customer leaves a shop."""

from importlib.metadata import version

from hansa.quiet import no_phone_home

__version__ = version("hansa")

no_phone_home()
