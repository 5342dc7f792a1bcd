"""What a run leaves behind: the summary on the console and the files of ``--out``.

``result`` is always the contract of result.json. Console and summary.md are two renderings of the
same sections, so they cannot disagree.
"""

from __future__ import annotations

import json
import math
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from hansa.errors import UsageError
from hansa_simulations import words
from hansa_simulations.plots import render

COLUMNS = 100
METRICS = ("ndcg@10", "recall@20", "hr@10")
ROWS = ("model", "shared", "alone", "popularity", "pooled")
SERVED = (
    "Epsilon covers what leaves a shop. What a shop serves its own customers, and the blend weight, use "
    "its exact data and are not covered. That a shop takes part, when, its assortment and rough size are "
    "not hidden."
)
EXACT = "The figures of this report are exact and exist only in a simulation."


@dataclass(frozen=True)
class _Section:
    """A titled part of the summary: paragraphs, then a table (header first), then bullets, then a remark."""

    title: str
    paragraphs: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    bullets: tuple[str, ...] = ()
    remark: str = ""


def console_summary(result: Mapping[str, Any], files: Sequence[Path] = ()) -> str:
    """The end of a run for a person: plain text of at most 100 columns.

    Args:
        result: The contract of result.json.
        files: What ``write_report`` has written, all in one folder.
    """
    result = _finite(result)
    lines = [*_wrapped(_title(result)), *_wrapped(words.data_line(result) + _overlap(result))]
    for section in _sections(result):
        lines += ["", section.title]
        for paragraph in section.paragraphs:
            lines += _wrapped(paragraph, "  ")
        lines += _aligned(section.table)
        for bullet in section.bullets:
            lines += _wrapped(bullet, "  - ", "    ")
        lines += _wrapped(section.remark, "  ")
    if files:
        names = ", ".join(path.name for path in files)
        lines += ["", f"Written to {files[0].parent}", *_wrapped(names, "  ")]
    return "\n".join(lines)


def markdown_summary(result: Mapping[str, Any]) -> str:
    """The same on one page of Markdown, with the plot and the command that repeats the run."""
    result = _finite(result)
    blocks = [f"# {_escaped(_title(result))}", _escaped(words.data_line(result) + _overlap(result)) + "."]
    blocks.append("![Accuracy by round and gain of each shop](accuracy.png)")
    for section in _sections(result):
        blocks.append(f"## {section.title}")
        blocks += [_escaped(paragraph) for paragraph in section.paragraphs]
        if section.table:
            head, *body = [f"| {' | '.join(map(_escaped, row))} |" for row in section.table]
            rule = "| --- | --- |" + " ---: |" * (len(section.table[0]) - 2)
            blocks.append("\n".join([head, rule, *body]))
        if section.bullets:
            blocks.append("\n".join(f"- {_escaped(bullet)}" for bullet in section.bullets))
        if section.remark:
            blocks.append(_escaped(section.remark))
    blocks.append(f"## Repeat\n\n```sh\n{result['command']}\n```")
    return "\n\n".join(blocks) + "\n"


def to_json(result: Mapping[str, Any]) -> str:
    """The result as a JSON document; NaN and infinities become null, arrays become lists."""
    return json.dumps(_finite(result), indent=2, allow_nan=False) + "\n"


def output_folder(out: Path) -> Path:
    """Make the folder for a report, and see before a long run that it can be written.

    Raises:
        UsageError: It is a file or may not be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"--out {out}: it, or a folder above it, is a file; name a folder") from None
    except OSError as error:
        raise _unwritable(out, error) from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: no permission to write there; name a folder that you may write")
    return out


def write_report(result: Mapping[str, Any], model: Mapping[str, npt.NDArray[Any]], out: Path) -> list[Path]:
    """Write result.json, summary.md, accuracy.png, accuracy.svg and model.safetensors.

    Each file appears whole or not at all and replaces that of an earlier run.

    Args:
        result: The contract of result.json.
        model: The released arrays by name.
        out: The folder, made if missing.

    Returns:
        The files, in the order above.

    Raises:
        UsageError: The folder is a file, or cannot be written.
    """
    output_folder(out)
    result = _finite(result)
    privacy = result["privacy"]
    metadata = {
        "version": str(result["hansa"]),
        "method": str(result["method"]),
        "dp": str(result["dp"]),
        "unit": str(privacy["unit"]),
        "epsilon": str(privacy["epsilon"]),
        "delta": str(privacy["delta"]),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in model.items()}
    return [
        _write(out / "result.json", to_json(result).encode()),
        _write(out / "summary.md", markdown_summary(result).encode(errors="replace")),
        _write(out / "accuracy.png", render(result, "png")),
        _write(out / "accuracy.svg", render(result, "svg")),
        _write(out / "model.safetensors", save(arrays, metadata=metadata)),
    ]


def _write(path: Path, content: bytes) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        # After a failure or an interrupt; after success it is gone already.
        if partial.exists():
            partial.unlink()
    return path


def _unwritable(path: Path, error: OSError) -> UsageError:
    reason = error.strerror or type(error).__name__
    return UsageError(f"--out: cannot write {path} ({reason}); name a folder that you may write")


def _sections(result: Mapping[str, Any]) -> Iterator[_Section]:
    yield _privacy(result)
    yield _accuracy(result)
    yield _shops(result)
    yield _time(result)
    if result["notes"]:
        yield _Section("Notes", bullets=tuple(result["notes"]))


def _title(result: Mapping[str, Any]) -> str:
    seeds = result["seeds"]
    runs = f"seed {result['seed']}" if len(seeds) < 2 else f"seeds {', '.join(map(str, seeds))}"
    method = f"{result['method']} on {result['protocol']}, {runs}"
    cut = "INTERRUPTED, a partial result: " if result["interrupted"] else ""
    return f"{cut}Hansa {result['hansa']}, {result['scenario']}: {method}"


def _overlap(result: Mapping[str, Any]) -> str:
    overlapping = result["data"]["overlapping_users"]
    return f"; {words.count(overlapping, 'customer')} of several shops" if overlapping else ""


def _privacy(result: Mapping[str, Any]) -> _Section:
    privacy, dp = result["privacy"], result["dp"]
    if dp == "none":
        return _Section("Privacy", (words.privacy_line(result) + ".", "Nothing is protected.", EXACT))
    epsilon, delta = words.epsilon_text(privacy["epsilon"]), words.delta_text(privacy["delta"])
    spent, overlap = words.epsilon_text(privacy["epsilon_spent"]), privacy["max_overlap"]
    check = privacy["cross_check"]
    accountant = f"Accountant {privacy['accountant']}; cross check "
    paragraphs = [
        f"epsilon {epsilon}, delta {delta} for {words.UNIT} (user level; adjacency: add or remove one).",
        f"DP model {dp}: {words.TRUST.get(dp, dp)}.",
        f"epsilon spent {spent}; for a person who is a customer of {words.count(overlap, 'shop')}, the "
        f"largest overlap declared, {words.epsilon_text(privacy['epsilon_spent_max_overlap'])}.",
        *_shared_noise(privacy.get("distributed")),
        *_ledgers(privacy.get("ledger")),
        accountant + ("not run." if check is None else f"epsilon {words.epsilon_text(check)}."),
        SERVED,
        EXACT,
    ]
    if privacy["not_covered"]:
        paragraphs.append("Not covered by epsilon either:")
    return _Section("Privacy", tuple(paragraphs), bullets=tuple(privacy["not_covered"]))


def _shared_noise(facts: Mapping[str, Any] | None) -> tuple[str, ...]:
    if not facts:
        return ()
    fewest, colluders = facts["fewest_shops_in_a_sum"], facts["colluders"]
    realised = words.epsilon_text(facts["epsilon_realised"])
    return (
        f"Claimed for {facts['honest']:,} honest shops in every sum: at least {facts['threshold']:,} take "
        f"part, of which up to {colluders:,} may tell others their share of the noise. There were at least "
        f"{fewest:,}: if no more than {colluders:,} of them told, epsilon {realised}.",
    )


def _ledgers(sums: Mapping[str, Any] | None) -> tuple[str, ...]:
    if not sums or sums["largest"] is None:
        return ()
    spent, ceiling = (words.epsilon_text(sums[name]) for name in ("largest", "ceiling"))
    return (f"By the shops' own ledgers, epsilon {spent} of a ceiling of {ceiling} is spent at most.",)


def _accuracy(result: Mapping[str, Any]) -> _Section:
    table: list[tuple[str, ...]] = [("", "", *METRICS)]
    for name in ROWS:
        row = result["metrics"].get(name)
        if row:
            cells = [words.figure(row.get(key), words.deviation(result, name, key)) for key in METRICS]
            table.append((name, _meaning(result, name), *cells))
    over = f", mean ± standard deviation of {len(result['seeds'])} seeds" if result.get("metrics_sd") else ""
    return _Section(f"Accuracy{over}", table=tuple(table), remark=words.gain_sentence(result))


def _meaning(result: Mapping[str, Any], name: str) -> str:
    kind = (result.get("references") or {}).get(name)
    return words.MEANING[name] + (f" ({kind})" if kind else "")


def _shops(result: Mapping[str, Any]) -> _Section:
    spread, shops = result["per_shop"], result["data"]["shops"]
    raw, proven = spread["worse_than_alone_raw"], spread["worse_than_alone"]
    if raw is None:
        return _Section("Shops", ("Not compared with training alone: the references were not computed.",))
    sentence = f"{raw:,} of {words.count(shops, 'shop')} do worse than alone"
    if proven is not None:
        sentence += f", {proven:,} of them beyond chance (paired bootstrap, Holm-corrected at level 0.01)"
    paragraphs = [sentence + "."]
    worst, best = spread["worst_decile"], spread["best_decile"]
    if worst is not None and best is not None:
        deciles = f"worst decile {words.signed(worst)}, best decile {words.signed(best)}"
        paragraphs.append(f"{words.METRIC} over training alone: {deciles}.")
    return _Section("Shops", tuple(paragraphs))


def _time(result: Mapping[str, Any]) -> _Section:
    timing = result["timing"]
    parts = [words.count(timing["rounds"], "round")]
    for key, text in (
        ("seconds_per_round", "{:.2f} s a round"),
        ("total_seconds", "{:.1f} s in all"),
        ("peak_rss_mb", "at most {:,.0f} MB of memory"),
    ):
        if timing[key] is not None:
            parts.append(text.format(timing[key]))
    missing = sum(step.get("missing") or 0 for step in result["history"])
    if missing:
        parts.append(f"{missing:,} replies of shops missing")
    return _Section("Time", (", ".join(parts) + f" ({result['engine']}).",))


def _wrapped(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    # Names of folders and columns come from outside: no control character may reach a terminal.
    safe = "".join(sign if sign.isprintable() else " " for sign in text)
    hanging = indent if hanging is None else hanging
    return textwrap.wrap(
        safe, COLUMNS, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False
    )


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """A table in columns: the first two to the left, figures to the right; long meanings are cut."""
    if not table:
        return []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    widths[1] = min(widths[1], COLUMNS - 2 - sum(widths[:1] + widths[2:]) - 2 * (len(widths) - 1))
    lines = []
    for name, meaning, *cells in table:
        cut = meaning if len(meaning) <= widths[1] else meaning[: widths[1] - 1] + "…"
        right = [cell.rjust(width) for cell, width in zip(cells, widths[2:], strict=True)]
        lines.append("  " + "  ".join([name.ljust(widths[0]), cut.ljust(widths[1]), *right]))
    return lines


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*<|\[\]])", r"\\\1", " ".join(text.split()))


def _finite(value: Any) -> Any:
    """Plain JSON values: NaN and infinities as None, numpy's numbers and arrays as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, Path) else value
