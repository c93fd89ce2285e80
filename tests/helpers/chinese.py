"""What of a Chinese text is English that should have been translated."""

import re

LATIN = re.compile(r"[A-Za-z][A-Za-z’'-]*[A-Za-z]")
TECHNICAL = {
    *("ReLU", "GELU", "LayerNorm", "softmax", "logit", "relu", "max", "min", "tanh", "px", "std"),
    *("RGB", "BGR", "ImageNet", "Python", "camreport", "index", "html", "results", "data", "CAM"),
    *("sha", "sha256", "float", "manifest", "json", "PNG", "JPEG", "PDF", "SVG", "HTML", "TIFF"),
    *("HEIC", "ISO", "AVIF", "Spearman", "Esc", "Enter", "Home", "End", "tail", "token", "AlexNet"),
    *("VGG", "channels", "English", "viridis", "cividis", "inferno", "gray", "turbo", "jet", "Top"),
    *("bilinear", "all", "basic", "full"),  # values of options
    *("Guided", "Backpropagation"),  # a method's name
    *("PCA", "t-SNE"),
}
"""Latin words that stand in Chinese text too."""


def english_in(text: str, names: list[str]) -> set[str]:
    """Return the English words of a text that are neither names nor technical words."""
    text = " ".join(text.split())
    for name in names:
        text = text.replace(name, " ")
    return set(LATIN.findall(text)) - TECHNICAL - {"fused", "input"}  # names of layers
