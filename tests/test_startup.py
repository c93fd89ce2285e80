"""What a process loads: nothing that takes longer than the work itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.checkout import INPUTS

HEAVY = (
    *("torchvision", "torch._dynamo", "torch._inductor", "scipy", "matplotlib", "timm"),
    *("fsspec", "s3fs", "gcsfs", "aiohttp", "botocore", "ray"),
)
"""Packages that nothing here needs; sympy is loaded by ``torch.autograd.grad`` itself."""

RUN = """
from camreport.cli.commands import main
sys.argv[1:] = ["run", *sys.argv[1:], "--quiet"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def heavy_packages_after(code: str, *arguments: str) -> list[str]:
    """Return which heavy packages a new process has loaded once some code has run in it."""
    asked = f"print('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{asked}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("loaded:")[2].split()


def test_loading_the_bundled_model_loads_no_heavy_package() -> None:
    assert heavy_packages_after("import camreport; camreport.load_model()") == []


def test_a_run_on_the_bundled_model_loads_no_heavy_package(tmp_path: Path) -> None:
    assert heavy_packages_after(RUN, str(INPUTS), "-o", str(tmp_path / "out")) == []


@pytest.mark.parametrize("model", ["resnet18", "efficientnet-lite0"])
def test_other_models_load_what_they_need(model: str) -> None:
    code = f"import camreport; camreport.load_model({model!r}, weights='none')"
    assert "torchvision" in heavy_packages_after(code)
