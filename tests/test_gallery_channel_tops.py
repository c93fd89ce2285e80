"""The Channels view: the images of the run in which picked channels contribute most."""

from pathlib import Path

import numpy as np
import pytest
from helpers import browser
from helpers.browser import Open, axe, until
from helpers.page_steps import texts
from helpers.runs import tiny, write_images

import camreport
from camreport.results.reader import load_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not browser.required() and browser.chromium() is None, reason="no Chromium here"
    ),
]


def test_picked_channels_show_the_images_in_which_they_contribute_most(
    open_report: Open, tmp_path: Path
) -> None:
    write_images(tmp_path / "photos", 6)
    out = tmp_path / "g"
    camreport.run(tmp_path / "photos", out, model=tiny(), layers=["2"], channels=["2"])
    results = load_results(out)
    images = list(results.readable)
    values = np.stack([results.contributions(image.index)[0] for image in images])
    channel = int((values > 0).sum(0).argmax())
    own = values[:, channel]
    order = [row for row in np.argsort(-own, kind="stable") if own[row] > 0]
    assert len(order) > 2
    page = open_report(out, link="#v=channels")
    page.wait_for_selector(".tops")
    assert page.locator(".tops .cell").count() == 0
    page.click(f"[data-focus='channel {channel}']")
    until(page, "document.querySelectorAll('.tops .cell').length", len(order))
    assert texts(page, ".tops .name") == [images[row].file for row in order]
    share = own[order[0]] / np.maximum(values[order[0]], 0).sum()
    assert texts(page, ".tops .hint")[1] == f"share {round(100 * float(share))}%"
    assert axe(page) == []
