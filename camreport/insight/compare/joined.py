"""Images of several runs joined by what is in their files, whatever these are called."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from camreport.errors import ResultsError
from camreport.messages import Message, message
from camreport.results.reader import Results


@dataclass(frozen=True)
class Missing:
    """An image that not all runs have.

    Attributes:
        file: its name, in the first run that has it.
        runs: places of the runs that lack it.
        reason: why it is not compared.
    """

    file: str
    runs: tuple[int, ...]
    reason: Message


@dataclass(frozen=True)
class Joined:
    """The images that all runs have.

    Attributes:
        images: of each of them its index in every run, in the order of the first run.
        missing: images that not all runs have, and those that a run has more than once.
    """

    images: tuple[tuple[int, ...], ...]
    missing: tuple[Missing, ...]


def join(names: Sequence[str], runs: Sequence[Results]) -> Joined:
    """Join images by the digest of their files; of equal files in a run the first one counts.

    Args:
        names: of the runs, for the message.
        runs: their results.

    Raises:
        ResultsError: there is no image that all runs have, or a sidecar is missing or damaged.
    """
    found: list[dict[str, int]] = []
    files: dict[str, str] = {}
    failed: list[dict[str, str]] = []
    repeated: list[Missing] = []
    for place, run in enumerate(runs):
        own: dict[str, int] = {}
        for image in run.readable:
            digest = image.sha256 or ""
            files.setdefault(digest, image.file)
            if own.setdefault(digest, image.index) != image.index:
                first = run.images[own[digest]].file
                reason = message("compare.repeated", run=names[place], file=first)
                repeated.append(Missing(image.file, (), reason))
        found.append(own)
        failed.append({image.sha256: image.file for image in run.failed if image.sha256})
    joined = [digest for digest in found[0] if all(digest in own for own in found)]
    if not joined:
        raise ResultsError(
            "runs: expected images that all runs have, but "
            f"{', '.join(map(repr, names))} have none in common. Images are joined by what is in "
            "their files: run all models on the same ones."
        )
    missing = (*_missing(names, found, failed, files), *repeated)
    return Joined(tuple(tuple(own[digest] for own in found) for digest in joined), missing)


def _missing(
    names: Sequence[str],
    found: Sequence[dict[str, int]],
    failed: Sequence[dict[str, str]],
    files: dict[str, str],
) -> Iterator[Missing]:
    """Yield the images that some runs lack."""
    for digest, file in files.items():
        runs = tuple(place for place, own in enumerate(found) if digest not in own)
        if runs:
            code = "failed" if any(digest in failed[place] for place in runs) else "missing"
            lacking = ", ".join(names[place] for place in runs)
            yield Missing(file, runs, message(f"compare.{code}", runs=lacking))
