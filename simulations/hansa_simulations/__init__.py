"""Federations on one machine: data, partitions, engines and experiments."""

from hansa.quiet import no_phone_home

no_phone_home()
