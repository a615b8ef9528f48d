"""Trainings that die on the way."""

import pytest

from frcnn.training.callbacks import History


class Crash(Exception):
    """What they die of."""


def crash_after(monkeypatch, steps, action):
    """Train by ``action``; with ``steps`` steps done, the next one dies before it is saved."""
    seen, count = [], History.on_train_batch_end

    def crash(self, batch, logs=None):
        count(self, batch, logs)
        seen.append(batch)
        if len(seen) > steps:
            raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(History, "on_train_batch_end", crash)
        action()
