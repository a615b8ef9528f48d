"""A real browser without a window, for pages that the project makes or serves.

Without one its tests are skipped, saying what to install; continuous integration has one, so there
they fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WINDOW = (1280, 900)  # pixels


@contextmanager
def open_browser(window: tuple[int, int] = WINDOW, dark: bool = False) -> Iterator:
    """A selenium driver of Chromium, closed at the end.

    Args:
        window: width and height of the page in pixels.
        dark: prefer dark colours, as a page asks by ``prefers-color-scheme``.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    bridge = shutil.which("chromedriver")
    if browser is None or bridge is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(
            "There is no Chromium with its chromedriver. "
            "Install them: apt-get install -y chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for switch in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
    ):
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=Service(bridge))
    try:
        # The window has a frame, even where it is not seen.
        size = {"width": window[0], "height": window[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


def console_errors(driver) -> list[str]:
    """What the pages have reported as errors since the last call: scripts and failed requests."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
