"""The invitation that a shop was set up with."""

from __future__ import annotations

from hansa.errors import UsageError
from hansa.league import Invitation
from hansa_client.home import ShopHome


def read_invitation(home: ShopHome) -> Invitation:
    """The invitation that the shop was set up with.

    Raises:
        UsageError: There is none.
    """
    try:
        text = home.invitation.read_text(encoding="utf-8")
    except OSError:
        raise UsageError(
            f"{home.root}: not a shop's folder; 'hansa client init INVITATION' makes one"
        ) from None
    return Invitation.from_json(text, str(home.invitation))
