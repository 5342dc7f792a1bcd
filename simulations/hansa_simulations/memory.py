"""How much memory this process has taken at most."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")


def peak_memory() -> float:
    """Peak resident memory of this process in MB, where the system tells; else the present one."""
    if _STATUS.exists():  # on Linux getrusage starts from the peak of the process that started this one
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 2**10
    memory = psutil.Process().memory_info()
    try:
        import resource
    except ImportError:
        return float(getattr(memory, "peak_wset", memory.rss)) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def reset_peak_memory() -> float:
    """Let ``peak_memory`` start anew from what this process has now, which is returned in MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory()
