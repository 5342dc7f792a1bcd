"""A model as bytes: the same for the same model, so that its hash can be signed; nothing in it can run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hansa.errors import VerificationError
from hansa.models.base import State

Shapes = Mapping[str, tuple[int, int]]


def model_bytes(state: State) -> bytes:
    """Public state in the format of safetensors; equal states are equal bytes."""
    return bytes(save({name: np.ascontiguousarray(state[name], dtype=np.float32) for name in sorted(state)}))


def read_model(content: bytes, source: str, shapes: Shapes | None = None) -> State:
    """What ``model_bytes`` made; it may come from anybody.

    Args:
        content: The bytes.
        source: Where from, for messages.
        shapes: What it must hold, see ``Method.state_shapes``; None takes any names and shapes.

    Raises:
        VerificationError: They are no model, or another than asked for.
    """
    try:
        # Copied: the bytes are not to be written to, and torch wants arrays that could be.
        state = {name: array.copy() for name, array in load(content).items()}
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise VerificationError(f"{source}: not a model ({error}); fetch it anew") from error
    check_state(state, source, shapes)
    return state


def check_state(state: State, source: str, shapes: Shapes | None = None) -> None:
    """See that arrays are float32, of two dimensions and finite, and the ones that are asked for.

    Args:
        state: The arrays by name.
        source: Where from, for messages.
        shapes: What they must be; None takes any names and shapes.

    Raises:
        VerificationError: Something is not so.
    """
    for name, array in sorted(state.items()):
        if array.dtype != np.float32 or array.ndim != 2 or not np.isfinite(array).all():
            raise VerificationError(f"{source}: {name}: not a finite float32 table; train it anew")
    found = {name: array.shape for name, array in state.items()}
    if shapes is not None and found != dict(shapes):
        wrong = sorted(name for name in {*found, *shapes} if found.get(name) != shapes.get(name))[0]
        raise VerificationError(
            f"{source}: {wrong}: {_shape(found.get(wrong))} where the plan has {_shape(shapes.get(wrong))}; "
            "ask the coordinator for the model of this plan"
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape))
