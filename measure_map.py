"""Measure the mean average precision: keras-frcnn's command and flags; see ``--help``."""

from frcnn.cli import run_safely
from frcnn.legacy import measure_main

if __name__ == "__main__":
    run_safely(measure_main)
