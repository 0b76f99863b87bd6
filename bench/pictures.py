"""Takes the pictures that docs/ has: ``python -m bench.pictures ADDRESS FOLDER``, of a fleet that is up."""

import sys
import time
from pathlib import Path

from tests.monitoring.browser import Browser, browsing

_SETTLED_SECONDS = 5.0


def picture(browser: Browser, path: Path) -> None:
    """The screen as it is once the page has settled."""
    time.sleep(_SETTLED_SECONDS)
    path.parent.mkdir(parents=True, exist_ok=True)
    browser.driver.save_screenshot(str(path))
    print(path)


def main(address: str, folder: Path) -> None:
    """All of them."""
    with browsing() as browser:
        for name, width, height, dark in (
            ("page-light", 1280, 1180, False),
            ("page-dark", 1280, 1180, True),
            ("page-phone", 390, 844, False),
        ):
            browser.size(width, height, dark=dark)
            browser.open(address)
            picture(browser, folder / f"{name}.png")
        browser.size(1280, 900)
        browser.open(address)
        browser.wait("a pipeline ended", lambda: browser.all("#ended tbody tr[data-status=completed] a"))
        browser.run("document.querySelector('#ended tbody tr[data-status=completed] a').click()")
        browser.wait("its stages are there", lambda: browser.all(".stages tr[data-stage]"))
        picture(browser, folder / "pipeline-light.png")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
