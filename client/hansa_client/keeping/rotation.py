"""New keys for a shop, in two steps, so that it is never without keys that the coordinator knows.

First they are made beside the old ones, which endorse them, and stay unused. When the coordinator has
admitted the new key card they take the place of the old ones. A step that was cut short is done again and
comes to the same end; the old keys are gone only when all the new ones are in their place.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from hansa.durable import sync, write_new, write_whole
from hansa.errors import RefusalError, UsageError
from hansa.league import KeyCard
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.keeping.joining import card_path
from hansa_client.keys import key_card, load_key, make_key, make_node_key

_CARD, _FINISHING = "card.json", "finishing"


def waiting(home: ShopHome) -> KeyCard | None:
    """The card of new keys that are not in use yet; None if there are none."""
    path = _next(home) / _CARD
    return KeyCard.from_json(path.read_text("utf-8"), str(path)) if path.exists() else None


def begin(home: ShopHome) -> KeyCard:
    """Make new keys, or tell again which wait. The old ones stay in use.

    Raises:
        UsageError: It is no shop's folder, its key is missing, or new keys are half way in use.
    """
    told, folder = read_invitation(home), _next(home)
    if (folder / _FINISHING).exists():
        raise UsageError(f"{folder}: new keys are half way in use; run 'hansa client rotate-keys --finish'")
    if not folder.exists():
        draft = _cleared(home)
        draft.mkdir(mode=0o700)
        key = make_key(draft / home.key.name)
        node = make_node_key(draft / home.node_key.name)
        card = KeyCard.make(told.league, told.shop, node, key, previous=load_key(home))
        write_new(draft / _CARD, card.to_json().encode())
        sync(draft)
        draft.rename(folder)
        sync(folder.parent)
    found = waiting(home)
    assert found is not None
    write_whole(card_path(home, told.shop), found.to_json().encode())
    return found


def finish(home: ShopHome) -> KeyCard:
    """Put the new keys in the place of the old ones, which are gone then.

    Raises:
        UsageError: There are no new keys.
        RefusalError: The shop runs.
    """
    from hansa_client.runtime.processes import running

    folder, card = _next(home), waiting(home)
    if card is None:
        raise UsageError(f"{home.root}: no new keys wait; 'hansa client rotate-keys' makes them")
    if running(home) is not None:
        raise RefusalError(f"{home.root}: the shop runs with its old keys; 'hansa client stop' first")
    if not (folder / _FINISHING).exists():
        write_new(folder / _FINISHING, b"")
        sync(folder)
    for name in (home.key.name, home.node_key.name, f"{home.node_key.name}.pub"):
        if (folder / name).exists():  # else it is in its place already
            (folder / name).replace(home.key.parent / name)
    sync(home.key.parent)
    _drop(home)
    return card


def cancel(home: ShopHome) -> None:
    """Throw new keys away that are not in use.

    Raises:
        UsageError: There are none, or they are half way in use.
    """
    told, folder = read_invitation(home), _next(home)
    if not folder.exists():
        raise UsageError(f"{home.root}: no new keys wait")
    if (folder / _FINISHING).exists():
        raise UsageError(f"{folder}: new keys are half way in use; run 'hansa client rotate-keys --finish'")
    write_whole(card_path(home, told.shop), key_card(home, told.league, told.shop).to_json().encode())
    _drop(home)


def _next(home: ShopHome) -> Path:
    return home.key.parent / "next"


def _drop(home: ShopHome) -> None:
    _next(home).rename(_cleared(home))
    sync(home.key.parent)
    _cleared(home)


def _cleared(home: ShopHome) -> Path:
    """The name under which keys are made and thrown away, with nothing there."""
    draft = home.key.parent / "next.draft"
    if draft.exists():
        shutil.rmtree(draft)
    return draft
