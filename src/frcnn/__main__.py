"""``python -m frcnn``: the command ``frcnn``."""

from frcnn.cli import main

if __name__ == "__main__":
    main()
