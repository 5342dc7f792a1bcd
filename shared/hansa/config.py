"""Settings in TOML files, and what is wrong with them in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hansa.errors import UsageError

S = TypeVar("S", bound=BaseModel)


def read_toml(path: Path, kind: type[S], missing: str) -> S:
    """Read a settings file.

    Args:
        path: The file.
        kind: What it holds.
        missing: What to do where it is not there.

    Raises:
        UsageError: It is missing or has a wrong value; the message names the field.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(f"{path}: not there; {missing}") from None
    except ValidationError as error:
        raise UsageError(f"{path}: {problem(error)}") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error


def problem(error: ValidationError) -> str:
    """The first thing that is wrong: the field's place and why."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"
