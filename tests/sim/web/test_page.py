"""The page in headless Chromium: a digit is drawn with the mouse and the core's answer read."""

import itertools
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]

# Corners in pixels from the middle of the drawing area.
SEVEN = [(-70, -100), (70, -100), (-20, 110)]
ONE = [(0, -110), (0, 110)]
ZERO = [(0, -110), (55, -75), (75, 0), (55, 75), (0, 110), (-55, 75), (-75, 0), (-55, -75),
        (0, -110)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--no-first-run", "--disable-background-networking", "--disable-sync",
                     "--disable-component-update", "--disable-quic", "--window-size=1200,1000",
                     f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, address):
    browser.get(address)
    WebDriverWait(browser, 30).until(
        lambda b: b.find_element(By.TAG_NAME, "body").get_attribute("data-ready"))
    return browser


def text(page, name):
    return page.find_element(By.ID, name).text


def draw(page, corners):
    drawing = page.find_element(By.ID, "drawing")
    chain = ActionChains(page, duration=20).move_to_element_with_offset(drawing, *corners[0])
    chain.click_and_hold()
    for before, after in itertools.pairwise(corners):
        chain.move_by_offset(after[0] - before[0], after[1] - before[1])
    chain.release().perform()


def answer(page):
    WebDriverWait(page, 60).until(lambda _: "computed" in text(page, "status"))
    return text(page, "digit")


@pytest.mark.parametrize(("digit", "corners"), [("0", ZERO), ("1", ONE), ("7", SEVEN)])
def test_a_drawn_digit_is_recognised(page, digit, corners):
    draw(page, corners)
    assert answer(page) == digit
    assert "the same integers" in text(page, "status")
    assert not [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_figures_logits_and_timeline_are_shown(page):
    draw(page, ONE)
    answer(page)
    figures = text(page, "figures").splitlines()
    cycles = int(figures[figures.index("cycles") + 1].replace(",", ""))
    assert cycles > 1000
    assert len(page.find_elements(By.CSS_SELECTOR, "#logits meter")) == 10
    boxes = page.find_elements(By.CSS_SELECTOR, "#timeline rect")
    assert len(boxes) == int(figures[figures.index("instructions") + 1])
    ActionChains(page).move_to_element(boxes[len(boxes) // 2]).perform()
    assert "cycles" in text(page, "instruction")
    assert text(page, "legend")


def test_clear_starts_anew(page):
    draw(page, SEVEN)
    answer(page)
    page.find_element(By.ID, "clear").click()
    assert text(page, "digit") == "?"
    assert not page.find_elements(By.CSS_SELECTOR, "#timeline rect")
    draw(page, ZERO)
    assert answer(page) == "0"


def test_a_click_leaves_a_dot_that_is_classified(page):
    draw(page, [(0, 0)])
    assert answer(page).isdigit()
    assert not [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
