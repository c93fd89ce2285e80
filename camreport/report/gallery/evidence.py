"""The evidence as the page takes it: what is measured of a run, of an image, and its words."""

from camreport.results.reader import Record


def evidence_prose() -> Record:
    """Return the words of the evidence in one language."""
    return {"facts": [], "questions": {}, "numbers": {}, "controls": {}, "undefined": {}}


def image_evidence() -> Record:
    """Return what is measured of an image's maps."""
    return {"controls": [], "scrambled": [], "numbers": {}, "curves": {}}
