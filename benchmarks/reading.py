"""What drawing initial weights adds to opening a model: `python benchmarks/reading.py RUN`.

Both ways alternate; the seconds are of the processor, medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run folder or a .keras file")
    given = parser.parse_args()

    import keras

    from frcnn.models import detector
    from frcnn.models.initializers import undrawn
    from frcnn.zoo.references import open_model

    open_model(given.run)
    seconds = {undrawn: [], nullcontext: []}
    for _ in range(ROUNDS):
        for way, taken in seconds.items():
            detector.undrawn = way
            began = time.process_time()
            open_model(given.run)
            taken.append(time.process_time() - began)
    now, before = (statistics.median(taken) for taken in seconds.values())
    print(f"{keras.backend.backend()}: {now:.2f} s, drawn {before:.2f} s, ratio {now / before:.2f}")


if __name__ == "__main__":
    main()
