"""What a shop has spent of its lifetime budget, and the only place that says whether more may go.

``account`` is the rule, ``memory`` a ledger for one process, ``file`` the durable one in an SQLite ``store``;
``entries`` says what is written and signed, ``beside`` keeps key and mark, ``check`` finds what is wrong.
"""

from hansa.dp.ledger.account import Budget, Draft, Reservation
from hansa.dp.ledger.memory import Ledger

__all__ = ["Budget", "Draft", "Ledger", "Reservation"]
