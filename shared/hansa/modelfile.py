"""A model as bytes: the same bytes for the same model, so that its hash can be signed."""

from __future__ import annotations

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hansa.errors import UsageError
from hansa.models.base import State


def model_bytes(state: State) -> bytes:
    """Public state in the format of safetensors; equal states are equal bytes."""
    return save({name: np.ascontiguousarray(state[name], dtype=np.float32) for name in sorted(state)})


def read_model(content: bytes, source: str) -> State:
    """What ``model_bytes`` made.

    Args:
        content: The bytes.
        source: Where from, for messages.

    Raises:
        UsageError: They are no model.
    """
    try:
        state = load(content)
    except SafetensorError as error:
        raise UsageError(f"{source}: not a model ({error})") from error
    for name, table in state.items():
        if table.dtype != np.float32 or table.ndim != 2 or not np.isfinite(table).all():
            raise UsageError(f"{source}: {name}: not a finite float32 table")
    return state
