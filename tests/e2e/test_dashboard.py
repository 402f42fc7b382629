"""The page over HTTP: who is let in, what is served, and what a real Chromium shows of it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from minwatt.v1.errors import UsageError
from scaler.dashboard.board import Board
from scaler.dashboard.options import OFF, DashboardOptions
from scaler.dashboard.server import Dashboard
from scaler.decision import ReasonCode
from tests.scaler.dashboard.moments import START_S, board_with, decision, reason, row, view

TOKEN = "a-token-of-sixteen"
LIMIT_S = 20.0


@pytest.fixture
async def shown() -> AsyncIterator[tuple[Board, str]]:
    """A board of two replicas and its address."""
    board = board_with(replicas=2, seconds=30)
    dashboard = Dashboard("127.0.0.1", 0, boards={"tiny": board})
    try:
        yield board, await dashboard.listen()
    finally:
        await dashboard.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    driver = shutil.which("chromedriver")
    assert driver is not None, "Debian's chromium-driver is missing: make system"
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


async def status(url: str, **request: Any) -> int:
    async with aiohttp.ClientSession() as session, session.get(url, **request) as answer:
        return answer.status


async def test_everything_comes_from_the_server_itself_and_says_so(shown: tuple[Board, str]) -> None:
    _, url = shown
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as page:
            text = await page.text()
            assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert "//" not in text.replace("</", "").replace("<!", ""), "nothing is fetched from elsewhere"
        async with session.get(f"{url}plotly.js") as plotly:
            assert (await plotly.text())[:200].lstrip().startswith("/**")
            assert await status(f"{url}plotly.js", headers={"If-None-Match": plotly.headers["ETag"]}) == 304
        async with session.get(f"{url}api/policies") as policies:
            assert await policies.json() == ["tiny"]


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        ("api/state?span=7", 400, "span = '7': allowed: 900, 14400, 86400"),
        ("api/state?policy=other", 404, "policy = 'other': known: tiny"),
        ("api/events?policy=other", 404, "known: tiny"),
        ("page/..%2Fserver.py", 404, "no such file"),
        ("page/none.js", 404, "no such file"),
    ],
)
async def test_a_mistake_is_one_line(shown: tuple[Board, str], path: str, code: int, says: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{shown[1]}{path}") as answer:
        text = await answer.text()
        assert (answer.status, text.count("\n")) == (code, 1)
        assert says in text


async def test_another_name_of_this_machine_is_refused(shown: tuple[Board, str]) -> None:
    """As a page of elsewhere would come, whose name was made to mean this machine."""
    assert await status(shown[1], headers={"Host": "evil.example"}) == 403
    assert await status(shown[1], headers={"Host": "localhost"}) == 200


async def test_others_need_a_token_and_keep_it_in_a_cookie(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\nanother-token-of-it\n")
    dashboard = DashboardOptions("0.0.0.0:0", file).opened()
    assert dashboard is not None
    dashboard.boards["a"] = board_with(1, 2)
    try:
        url = (await dashboard.listen()).replace("0.0.0.0", "127.0.0.1")
        assert await status(url) == 401
        assert await status(f"{url}api/events") == 401
        assert await status(url, headers={"Authorization": "Bearer wrong-token-of-sixteen"}) == 401
        assert await status(url, headers={"Authorization": f"Bearer {TOKEN}"}) == 200
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.get(f"{url}?token={TOKEN}") as first:
                assert (first.status, str(first.url)) == (200, url)
                assert "httponly" in first.history[0].headers["Set-Cookie"].lower()
            async with session.get(f"{url}api/state") as second:
                assert second.status == 200
    finally:
        await dashboard.close()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            DashboardOptions("0.0.0.0:9"),
            "--dashboard = '0.0.0.0:9': others can look: needs --dashboard-token-file",
        ),
        (
            DashboardOptions("nonsense"),
            "--dashboard = 'nonsense': allowed: HOST:PORT (port 0: a free one), or off",
        ),
        (DashboardOptions("127.0.0.1:70000"), "allowed: HOST:PORT"),
        (DashboardOptions(OFF, Path("t")), "--dashboard-token-file: of no use with --dashboard off"),
        (DashboardOptions(None, Path("none")), "--dashboard-token-file = 'none': No such file"),
    ],
)
def test_a_wrong_option_is_one_line(options: DashboardOptions, line: str) -> None:
    with pytest.raises(UsageError) as error:
        options.opened()
    assert line in str(error.value)


async def test_a_port_that_is_taken_is_said_and_the_usual_one_moves(shown: tuple[Board, str]) -> None:
    port = shown[1].rstrip("/").rpartition(":")[2]
    asked = DashboardOptions(f"127.0.0.1:{port}").opened()
    assert asked is not None
    with pytest.raises(UsageError, match=f"--dashboard = '127.0.0.1:{port}': can't listen"):
        await asked.listen()
    usual = Dashboard("127.0.0.1", int(port), may_move=True)
    try:
        assert await usual.listen() != shown[1]
    finally:
        await usual.close()


async def test_events_come_as_they_happen_and_end_with_the_server(shown: tuple[Board, str]) -> None:
    board, url = shown
    async with aiohttp.ClientSession() as session, session.get(f"{url}api/events") as stream:
        assert await stream.content.readline() == b"retry: 1000\n"
        await stream.content.readline()
        board.observed(row(31, watts=7.5))
        assert await stream.content.readline() == b"event: beat\n"
        point = json.loads((await stream.content.readline())[len("data: ") :])["point"]
        assert 7.5 in point
        board.close()
        assert await asyncio.wait_for(stream.content.read(), LIMIT_S) == b"\n"


async def test_chromium_shows_what_the_api_says_and_follows_it(
    shown: tuple[Board, str], chromium: webdriver.Chrome
) -> None:
    board, url = shown
    await asyncio.to_thread(chromium.get, url)

    async def text(selector: str) -> str:
        found = await asyncio.to_thread(chromium.find_element, By.CSS_SELECTOR, selector)
        return found.text

    async def until(selector: str, said: str) -> None:
        wait = WebDriverWait(chromium, LIMIT_S, poll_frequency=0.05)
        await asyncio.to_thread(
            wait.until,
            lambda page: said in page.find_element(By.CSS_SELECTOR, selector).text,
            f"{said} in {selector}",
        )

    await until("#connection", "live")
    await until("#policy", "tiny")
    story = await text("#story")
    assert "2 replicas ready for 120 requests/s: p99 41 ms of 100 ms, 6 W (modelled)" in story
    assert "Last decision: 1 → 2 replicas" in story
    figures = await text("#figures")
    assert "goodput 90 /s" in figures
    assert "no budget · modelled" in figures
    assert (await text("#conditions")) == "all is well"
    assert "replica-1 ready 60 20" in await text("#replicas tbody")

    board.roster.hear(view(3, 31.0))
    board.observed(row(31, replicas_ready=3, p99_s=0.2, watts=8.25))
    board.decided(decision(2, 1, reason(ReasonCode.SURPLUS_LASTED, surplus_for_s=94.0)), START_S + 31)
    await until("#figures", "8.25 W")
    await until("#replicas tbody", "replica-3")
    assert await text("#figures dd.broken") == "200 ms", "over the SLO"
    await until("#log li", "2 → 1 replicas")
    assert "surplus lasted 94 s" in await text("#log li em")
    await until(
        "#announced", "2 → 1 replicas: surplus lasted 94 s"
    )  # of a decision alone, by a screen reader

    def choose() -> str:
        """By the keyboard alone."""
        button = chromium.find_element(By.CSS_SELECTOR, "#log button")
        button.send_keys(Keys.ENTER)
        return str(button.get_attribute("aria-pressed"))

    assert await asyncio.to_thread(choose) == "true"
    await until(".chart .annotation", "2 → 1 replicas")
    label = await asyncio.to_thread(
        lambda: chromium.find_elements(By.CSS_SELECTOR, ".plot")[1].get_attribute("aria-label")
    )
    assert label is not None
    assert "p99 200" in label

    await asyncio.to_thread(_fits_a_phone, chromium)
    assert await asyncio.to_thread(chromium.get_log, "browser") == [], "no error in the console"


def _fits_a_phone(page: webdriver.Chrome) -> None:
    """Once the curves are drawn anew nothing sticks out."""
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    fits = "return document.documentElement.scrollWidth <= 390"
    WebDriverWait(page, LIMIT_S, poll_frequency=0.05).until(lambda one: one.execute_script(fits))
