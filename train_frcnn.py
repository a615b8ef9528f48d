"""Train Faster R-CNN: keras-frcnn's command and flags; see ``python train_frcnn.py --help``."""

from frcnn.cli import run_safely
from frcnn.legacy import train_main

if __name__ == "__main__":
    run_safely(train_main)
