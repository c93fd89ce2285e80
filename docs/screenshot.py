"""Take the README's picture of the demo report: ``python docs/screenshot.py``."""

import sys
import tempfile
from pathlib import Path

import camreport

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import launched  # noqa: E402  (found through the line above)


def main() -> None:
    """Render the demo photographs and photograph the top of the report."""
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        camreport.run(ROOT / "inputs", folder, overwrite=True)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto((Path(folder) / "index.html").as_uri())
        page.screenshot(path=ROOT / "docs" / "screenshot.png")


if __name__ == "__main__":
    main()
