"""The exception tree: one class per thing the user can change.

CamReportError
├── InputError      an image, a folder or an output location
│   └── OutputError      a file that cannot be written, a folder that another run writes to
├── ModelError      a model name, a weights file or what the model returns
│   └── MemoryLimitError   one image at a time is still too much for the device
├── LayerError      a layer address
├── ClassError      a class index, class name or target
├── MethodError     a method name or what a method was given
├── MetricError     a metric's name or what a metric was given
├── ResultsError    a results folder that cannot be read
└── WorkerError     a process or machine that died during the run

Messages follow ``<argument>: expected <rule>, got <value>. <What to do next.>``
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CamReportError(Exception):
    """Base of every error that the user can fix; the command line prints only its message."""


class InputError(CamReportError):
    """An input image, an input folder or the output location is not usable."""


class OutputError(InputError):
    """A file of the report cannot be written, or another process is writing there."""


class ModelError(CamReportError):
    """The model cannot be loaded, or it does not return usable logits."""


class MemoryLimitError(ModelError):
    """A batch of one image does not fit into the device's memory."""


class LayerError(CamReportError):
    """A layer address does not lead to one spatial tensor."""


class ClassError(CamReportError):
    """A class index or class name does not exist in the model."""


class MethodError(CamReportError):
    """A method name is unknown, or its arguments do not fit together."""


class MetricError(CamReportError):
    """A metric's name is unknown, or its arguments do not fit together."""


class ResultsError(CamReportError):
    """A results folder is missing, incomplete or not written by camreport."""


class WorkerError(CamReportError):
    """Workers have died, so that shards are left to compute; the same command resumes."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known word, or an empty string."""
    nearest = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
