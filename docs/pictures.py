"""Take the documents' pictures of the demo report: ``python docs/pictures.py``."""

import sys
import tempfile
from pathlib import Path

import camreport

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.browser import launched  # noqa: E402  (found through the line above)

PINS = "0.1.grad_cam.features.12~0.1.layer_cam.features.12~0.0.layer_cam.features.9"
PICTURES = {
    "matrix": "",
    "overview": "#v=overview&m=layer_cam&k=1",
    "focus": "#v=matrix&r=image&c=layer&b=none&m=layer_cam&k=1",
    "cell": "#open=0.1.layer_cam.features.12",
    "compare": f"#v=compare&p={PINS}",
    "channels": "#v=channels&co=contribution&k=1&ch=22-88-107-111-133-137-150",
    "tables": "#v=tables&tb=methods",
    "chinese": "#lang=zh&th=dark&cm=inferno",
}
"""Names of the pictures with the state of the report that each shows."""


def main() -> None:
    """Explain the demo photographs, and photograph each view of the report."""
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        camreport.run(
            ROOT / "inputs",
            folder,
            channels=["features.10"],
            labels={"both.jpg": "dog", "cat.jpg": "cat", "dog.jpg": "dog"},
            overwrite=True,
        )
        report = (Path(folder) / "index.html").as_uri()
        for name, state in PICTURES.items():
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(report + state)
            page.wait_for_selector("#view canvas.heat")
            page.wait_for_timeout(300)  # pictures below the fold
            path = ROOT / "docs" / "pictures" / f"{name}.jpg"
            page.screenshot(path=path, type="jpeg", quality=80)
            page.close()


if __name__ == "__main__":
    main()
