"""Detect in a folder of pictures: keras-frcnn's command and flags; see ``--help``."""

from frcnn.cli import run_safely
from frcnn.legacy import test_main

if __name__ == "__main__":
    run_safely(test_main)
