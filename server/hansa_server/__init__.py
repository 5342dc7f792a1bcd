"""The coordinator's side of a federation."""

from hansa.quiet import no_phone_home

no_phone_home()
