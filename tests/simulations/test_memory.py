"""Peak memory is this process's own."""

import subprocess
import sys

from hansa_simulations.memory import peak_memory


def alone(code: str) -> list[float]:
    code = f"from hansa_simulations.memory import peak_memory\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


def test_it_keeps_the_peak_after_memory_is_given_back() -> None:
    before, after = alone("print(peak_memory()); x = b'x' * (200 << 20); del x; print(peak_memory())")
    assert 195 < after - before < 215


def test_it_is_not_that_of_the_process_that_started_it() -> None:
    held = b"x" * (300 << 20)
    (child,) = alone("print(peak_memory())")
    assert child < 200 < len(held) / 2**20 < peak_memory()


def test_the_peak_starts_anew_when_it_is_told_to() -> None:
    code = (
        "from hansa_simulations.memory import reset_peak_memory; x = b'x' * (200 << 20); del x\n"
        "print(peak_memory()); print(reset_peak_memory()); y = b'y' * (50 << 20); print(peak_memory())"
    )
    high, start, after = alone(code)
    assert high - start > 195
    assert 45 < after - start < 60
