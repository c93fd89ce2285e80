"""Take the documents' pictures of the demo report: ``python docs/pictures.py``."""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import camreport

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.browser import launched  # noqa: E402  (found through the line above)

LABELS = {"both.jpg": "cat", "cat.jpg": "cat", "dog.jpg": "dog"}
"""True classes: one prediction of the three is wrong."""
PINS = "0.1.grad_cam.features.12~0.1.layer_cam.features.12~0.0.layer_cam.features.9"


class Picture(NamedTuple):
    """A state of the report, how many pixels of it are seen, and a button that is pressed."""

    state: str
    height: int = 900
    button: str = ""


PICTURES = {
    "summary": Picture(""),
    "appearance": Picture("#v=matrix&i=1&lf=1", 640, "Appearance"),
    "images": Picture("#v=overview&q=is:cat&s=p.up&m=layer_cam", 690),
    "matrix": Picture("#v=matrix&i=1", 786),
    "focus": Picture("#v=matrix&r=image&c=layer&b=none&m=layer_cam&k=1", 730),
    "pair": Picture("#v=matrix", 500),
    "cell": Picture("#v=matrix&open=0.1.layer_cam.features.12"),
    "compare": Picture(f"#v=compare&p={PINS}", 820),
    "channels": Picture("#v=channels&co=contribution&k=1&ch=22-88-107-111-133-137-150", 660),
    "figures": Picture("#v=tables&tb=methods", 720),
    "chinese": Picture("#lang=zh&th=dark", 870),
}
"""The pictures by name."""


def main() -> None:
    """Explain the demo photographs, and photograph each view of the report."""
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        camreport.run(
            ROOT / "inputs", folder, channels=["features.10"], labels=LABELS, overwrite=True
        )
        report = (Path(folder) / "index.html").as_uri()
        for name, picture in PICTURES.items():
            page = browser.new_page(viewport={"width": 1280, "height": picture.height})
            page.goto(report + picture.state)
            page.wait_for_selector("#view canvas.heat")
            if picture.button:
                page.get_by_role("button", name=picture.button).click()
            page.wait_for_timeout(300)  # pictures below the fold
            path = ROOT / "docs" / "pictures" / f"{name}.jpg"
            page.screenshot(path=path, type="jpeg", quality=70)
            page.close()


if __name__ == "__main__":
    main()
