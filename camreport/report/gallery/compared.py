"""Several runs where the page is made of one: the first run, with the others at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from camreport.insight.compare.view import RunView


@dataclass
class ComparedResults(RunView):
    """The first of several runs, with the others.

    Attributes:
        names: of all runs.
        others: the further runs.
    """

    names: Sequence[str] = ()
    others: Sequence[RunView] = ()

    @classmethod
    def of_views(
        cls, names: Sequence[str], views: Sequence[RunView], folder: Path
    ) -> "ComparedResults":
        """Return the first of some runs with the others, in the folder of their comparison."""
        first, *others = views
        return cls(
            folder,
            first.manifest,
            inner=first.inner,
            own=first.own,
            members=first.members,
            explained=first.explained,
            keys=first.keys,
            names=names,
            others=others,
        )

    @property
    def views(self) -> tuple[RunView, ...]:
        """All runs."""
        return self, *self.others

    def light(self) -> "ComparedResults":
        """Return the results as another process takes them: all of them."""
        return self
