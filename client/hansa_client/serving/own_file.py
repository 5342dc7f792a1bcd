"""A shop's own exact model as a file: safetensors with its settings beside the arrays, nothing to run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from hansa.models.content import Content
from hansa.models.ease import DualEase, PrimalEase
from hansa.models.ials import Ials, IalsSettings
from hansa.models.own import OwnModel

_SETTINGS = "settings"
_EXACT = ("popularity_weight", "regularisation", "recency", "customers")


def save_own(model: OwnModel, path: Path) -> None:
    """Write an own model; the file's folder decides who may read it until its mode is set to 0600.

    Args:
        model: A fitted model.
        path: The file, in a folder that nobody else may enter.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"counts": model.counts}
    settings: dict[str, Any] = {name: getattr(model, name) for name in _EXACT} | {"kind": model.kind}
    if model.content is not None:
        arrays |= _csr("neighbours", model.content.neighbours)
    personal = model.personal if model.kind != "popularity" else None
    if isinstance(personal, PrimalEase):
        arrays["weights"] = personal.weights
    elif isinstance(personal, DualEase):
        arrays |= _csr("rows", personal.rows)
        arrays |= {"coefficients": personal.coefficients, "scale": personal.scale}
    elif isinstance(personal, Ials):
        arrays["items"] = personal.items.numpy()
        settings["ials"] = asdict(personal.settings)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, path, metadata={_SETTINGS: json.dumps(settings)})
    path.chmod(0o600)


def load_own(path: Path) -> OwnModel:
    """Read an own model; its large arrays stay in the file until they are needed.

    Raises:
        OSError: The file is not there.
        ValueError: It is not such a file.
    """
    with safe_open(path, framework="pt") as file:
        settings = json.loads((file.metadata() or {}).get(_SETTINGS, "{}"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    if "counts" not in arrays or any(name not in settings for name in _EXACT):
        raise ValueError(f"{path}: not an own model")
    n_items = len(arrays["counts"])
    personal: PrimalEase | DualEase | Ials | None = None
    if "weights" in arrays:
        personal = PrimalEase(arrays["weights"])
    elif "coefficients" in arrays:
        personal = DualEase(_matrix("rows", arrays, n_items), arrays["coefficients"], arrays["scale"])
    elif "items" in arrays:
        personal = Ials(torch.from_numpy(arrays["items"]), IalsSettings(**settings["ials"]))
    content = Content(_matrix("neighbours", arrays, n_items)) if "neighbours.offsets" in arrays else None
    exact = {name: settings[name] for name in _EXACT}
    return OwnModel(personal, arrays["counts"], content=content, **exact)


def _csr(name: str, matrix: sp.csr_array) -> dict[str, npt.NDArray[Any]]:
    return {
        f"{name}.offsets": matrix.indptr.astype(np.int64),
        f"{name}.items": matrix.indices.astype(np.int32),
        f"{name}.values": matrix.data.astype(np.float32),
    }


def _matrix(name: str, arrays: dict[str, npt.NDArray[Any]], n_items: int) -> sp.csr_array:
    offsets, items, values = (arrays[f"{name}.{part}"] for part in ("offsets", "items", "values"))
    return sp.csr_array((values, items, offsets), shape=(len(offsets) - 1, n_items))
