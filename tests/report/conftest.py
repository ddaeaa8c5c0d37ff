"""A real browser, which no test may let out to a network."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",  # the tests may run as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """Chromium, with a page of ours in it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, theme: str = "light", width: int = 1280) -> None:
        """Open a file in a window of `width`; `attacked()` in it is noticed."""
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        )
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(path.as_uri())

    def js(self, script: str, *arguments: Any) -> Any:
        """Return the value of a script's `return`."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """Return the visible text of every element that is shown."""
        return [
            str(text)
            for text in self.js(
                "return [...document.querySelectorAll(arguments[0])].filter(e => e.offsetParent).map(e => e.innerText)",
                selector,
            )
        ]

    def complaints(self) -> list[str]:
        """Return what the console says since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return what was asked for since the page was opened, but for the page itself."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if url != self.driver.current_url.partition("#")[0]]

    def axe(self) -> list[str]:
        """Return what axe-core finds serious or worse."""
        found = Axe().run(self.driver)["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}"
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]


@pytest.fixture(scope="session")
def _driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.fail("needs a browser (apt-get install chromium chromium-driver)", pytrace=False)
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    chrome.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "window.attacked = () => { window.wasAttacked = true; }"}
    )
    chrome.set_script_timeout(300)  # axe-core looks at everything, and machines differ
    yield chrome
    chrome.quit()


@pytest.fixture
def browser(_driver: Chrome) -> Browser:
    """Chromium without a window."""
    return Browser(_driver)
