"""Data sets: reading, checking, changing and batching labelled pictures (NumPy, OpenCV)."""
