"""Images in the plane: principal components, and t-SNE."""

import numpy as np
from numpy.typing import NDArray

from camreport.insight.clusters import MIN_IMAGES, SEED, one_thread, principal

MAX_TSNE = 20_000
"""Most images that t-SNE lays out."""

PERPLEXITY = 30.0
"""Of t-SNE: about how many neighbours of an image count; of few images a third of them."""


STEPS = 500
"""Of t-SNE: half of them apart from its exaggeration at the beginning."""


def plane(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centre and the first two principal components of vectors ``(n, d)``.

    Each component's sign is such that its largest coordinate by magnitude is positive.

    Returns:
        ``(d,)`` and ``(d, 2)``; zeros where there are fewer directions.
    """
    centre = vectors.mean(0)
    centred = vectors - centre
    _, found = np.linalg.eigh(centred.T @ centred)
    axes = np.zeros((vectors.shape[1], 2))
    last = found[:, ::-1][:, :2]
    largest = np.take_along_axis(last, np.abs(last).argmax(0)[None], 0)
    axes[:, : last.shape[1]] = last * np.sign(largest)
    return centre, axes


def tsne(vectors: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return a layout in which neighbours stay neighbours, ``(n, 2)``; None of few or too many.

    Distances between groups, and their sizes, mean nothing in it.

    Source: van der Maaten and Hinton, Visualizing data using t-SNE, 2008,
        https://www.jmlr.org/papers/v9/vandermaaten08a.html
    """
    from sklearn.manifold import TSNE

    if not MIN_IMAGES <= len(vectors) <= MAX_TSNE:
        return None
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    with one_thread():
        made = TSNE(perplexity=perplexity, init="pca", max_iter=STEPS, random_state=SEED, n_jobs=1)
        laid: NDArray[np.float64] = made.fit_transform(principal(vectors)).astype(np.float64)
    return laid
