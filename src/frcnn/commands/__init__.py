"""Subcommands of ``frcnn``: what each takes, and a few lines over the library."""
