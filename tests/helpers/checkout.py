"""Where this checkout keeps what tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


INPUTS = ROOT / "inputs"


COURSE_LAYERS = [f"features.{index}" for index in (0, 3, 6, 9, 12)]
