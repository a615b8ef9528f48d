"""What pip does not install beside the others: demanded where everything is tested, else asked for.

Continuous integration installs it all, so there a test without it fails; elsewhere it is skipped,
saying what to install.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """End a test that cannot do without what is missing; ``what`` says how to install it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
