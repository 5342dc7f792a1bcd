"""A shop that is killed between a mark and its reply.

``python kill.py FOLDER STAGE`` marks the stages up to that one, says so, and waits to be killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hansa.secagg.markers import STAGES, MarkerFolder


def main(folder: str, stage: str) -> None:
    markers = MarkerFolder(Path(folder))
    for each in STAGES[: STAGES.index(stage) + 1]:
        markers.claim("run", 3, 1, each, bytes(32))
        print(each, flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
