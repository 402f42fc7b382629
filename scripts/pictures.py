"""Draws the README's pictures anew: the live page of a real fleet under load, and the demo's report.

    python -m scripts.pictures

Plays two minutes of load against a real `minwatt up` with the demo's policy, and looks at its page with
Debian's Chromium; then at out/demo/report.html, where `make demo` left one. Called by `make pictures`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from examples.demo.processes import Load, fleet, replay
from examples.demo.run import POLICY
from scaler.policy import load_policy

ROOT = Path(__file__).resolve().parent.parent
_DASHBOARD, _DEMO = ROOT / "docs" / "dashboard.png", ROOT / "docs" / "demo.png"
_REPORT = ROOT / "out" / "demo" / "report.html"
_LOAD_S = 120.0
_PEAK_RPS = 330.0
_LIMIT_S = 30.0


def main() -> int:
    browser = _chromium()
    try:
        policy = load_policy(POLICY)
        load = Load(_LOAD_S, _PEAK_RPS, 7, policy.spec.slo.latency_s)
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "fleet"
            record.mkdir()
            with (
                fleet(POLICY, None, record) as addresses,
                replay(addresses.grpc, "run", load, record, Path(folder)),
            ):
                time.sleep(0.9 * _LOAD_S)
                _shoot(browser, addresses.dashboard, _DASHBOARD, (1400, 1180))
        if _REPORT.exists():
            _shoot(browser, _REPORT.as_uri(), _DEMO, (1400, 1180))
    finally:
        browser.quit()
    return 0


def _chromium() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
    ):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def _shoot(browser: webdriver.Chrome, url: str, file: Path, size: tuple[int, int]) -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(url)
    WebDriverWait(browser, _LIMIT_S).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".main-svg"))
    time.sleep(3.0)  # a few seconds more of the curves
    browser.save_screenshot(str(file))
    sys.stdout.write(f"written: {file.relative_to(ROOT)}\n")


if __name__ == "__main__":
    sys.exit(main())
