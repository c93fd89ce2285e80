"""Values that options take, checked by their words alone, before torch is imported."""

import importlib.util
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path

from camreport.errors import ClassError, InputError, LayerError, MethodError, ModelError, suggestion
from camreport.settings.text import split_list

BUNDLED = "catdog-alexnet"
"""Name of the bundled model."""

EFFICIENTNET_LITE0 = "efficientnet-lite0"
"""Name of the ImageNet classifier that a package brings."""

TIMM = "timm:"
"""How timm's names begin."""

DEFAULT_METHODS = ("grad_cam", "layer_cam")
"""What is compared where nobody chooses methods."""

LANGUAGES = {"en": "English", "zh": "中文"}
"""Languages of a report by their codes, each in its own words."""

GAMMA = 2.0
"""Steepness of the tanh that lifts shallow maps in LayerCAM's fusion (Jiang et al. 2021, eq. 9)."""

QUANTITIES = ("logit", "probability", "contrast")
"""Scores of a class that can be explained; ``contrast:CLASS`` names the other class."""

SOFTMAX, SIGMOID, NONE = "softmax", "sigmoid", "none"
ACTIVATIONS = (SOFTMAX, SIGMOID, NONE)
"""What turns a model's outputs into probabilities: a softmax over exclusive classes, a sigmoid of
each class by itself, or nothing, because they are probabilities already."""

AUTO = "auto"
"""Stands for what is chosen by rule: of ``ACTIVATIONS`` the one that the model's outputs show, or
the layers."""

SMOOTHINGS = ("noise", "aug", "eigen")
"""Ways of smoothing that ``smooth`` takes."""

OFF, BASIC, FULL = "off", "basic", "full"
LEVELS = (OFF, BASIC, FULL)
"""How much evidence is measured for the maps."""

MAIN, ALL = "main", "all"
EVIDENCE_MAPS = (MAIN, ALL)
"""Maps whose marked parts are covered in order."""

MAX_WORKERS = 4096
"""Most workers of a run; more is a slip of the hand."""

CLUSTERS = ("ray", "ray:local")
"""Clusters that ``on`` takes: one that runs, or one of this machine alone."""

EXACT, TF32, BF16 = "exact", "tf32", "bf16"
PRECISIONS = (EXACT, TF32, BF16)
"""Arithmetic of a model's passes: float32; TF32, float32 with a shorter mantissa in products, of
NVIDIA GPUs; or bfloat16 under autocast, with maps in float32."""

WEIGHTS = ("default", "none")
"""What ``weights`` takes: the model's own, or random ones."""


def check_quantity(quantity: str, *, by_name: bool = False) -> str:
    """Return ``logit``, ``probability``, ``contrast`` or ``contrast:INDEX`` as it is.

    Args:
        quantity: which score of a class is explained.
        by_name: accept the name of a class as well as its index.

    Raises:
        ClassError: it is none of these.
    """
    kind, colon, rival = quantity.partition(":") if isinstance(quantity, str) else ("", "", "")
    named = rival.strip() if by_name else rival.isdecimal()
    if (kind == "contrast" and named) or (not colon and kind in QUANTITIES):
        return quantity
    raise ClassError(
        "quantity: expected logit, probability, contrast or contrast:CLASS, got "
        f"{_shown(quantity)}." + suggestion(kind, QUANTITIES)
    )


def check_activation(activation: str) -> str:
    """Return one of ``ACTIVATIONS``, or ``auto``, as it is.

    Raises:
        ModelError: it is none of these.
    """
    if activation not in (AUTO, *ACTIVATIONS):
        known = f"{AUTO}, {', '.join(ACTIVATIONS[:-1])} or {ACTIVATIONS[-1]}"
        raise ModelError(f"activation: expected {known}, got {activation!r}.")
    return activation


def check_output(output: str | None) -> None:
    """Refuse a key of the logits that is no text.

    Raises:
        ModelError: it is none.
    """
    if output is not None and not isinstance(output, str):
        raise ModelError(
            f"output: expected a text, or None to find the logits, got {_shown(output)}. For the "
            "first part of a tuple output='0', for a dictionary's output='logits'."
        )


def check_precision(precision: str) -> str:
    """Return one of ``PRECISIONS`` as it is.

    Raises:
        ModelError: it is none of these.
    """
    if precision not in PRECISIONS:
        known = f"{', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}"
        raise ModelError(f"precision: expected {known}, got {_shown(precision)}.")
    return precision


def check_smoothings(smooth: str | Sequence[str]) -> tuple[str, ...]:
    """Return the chosen ways of smoothing in their own order, without repeats.

    Raises:
        MethodError: there is no such way.
    """
    if not isinstance(smooth, Iterable):
        raise MethodError(
            f"smooth: expected some of {', '.join(SMOOTHINGS)}, got {_shown(smooth)}. For instance "
            f"smooth={SMOOTHINGS[0]!r}."
        )
    words = [word.strip().lower() for word in map(str, _entries(smooth)) if word.strip()]
    for word in words:
        if word not in SMOOTHINGS:
            raise MethodError(
                f"smooth: expected some of {', '.join(SMOOTHINGS)}, got {word!r}."
                + suggestion(word, SMOOTHINGS)
            )
    return tuple(kind for kind in SMOOTHINGS if kind in words)


def check_numbers(gamma: float, stages: int | None, seed: int) -> None:
    """Refuse numbers that are out of range.

    Raises:
        MethodError: as for ``check_gamma``, ``check_stages`` and ``check_seed``.
    """
    check_gamma(gamma)
    check_stages(stages)
    check_seed(seed)


def check_gamma(gamma: float) -> None:
    """Refuse a strength of the fusion's lift that is none.

    Raises:
        MethodError: it is not above 0, or not finite.
    """
    if not (isinstance(gamma, Real) and 0 < gamma < float("inf")):
        raise MethodError(f"gamma: expected a number above 0, got {_shown(gamma)}.")


def check_stages(stages: int | None) -> None:
    """Refuse a negative number of early stages.

    Raises:
        MethodError: it is.
    """
    if stages is not None and not (isinstance(stages, Integral) and stages >= 0):
        raise MethodError(f"stages: expected a whole number from 0, or None, got {_shown(stages)}.")


def check_seed(seed: int) -> None:
    """Refuse a seed that random number generators do not take.

    Raises:
        MethodError: it is below 0 or takes more than 63 bits.
    """
    if not (isinstance(seed, Integral) and 0 <= seed < 2**63):
        raise MethodError(f"seed: expected a whole number from 0 to 2**63 - 1, got {_shown(seed)}.")


def check_classes(classes: str | Sequence[int | str]) -> None:
    """Refuse a choice of classes that chooses none.

    Raises:
        ClassError: it does.
    """
    if not isinstance(classes, Iterable):
        raise ClassError(
            f"classes: expected all, top3, indices or names, got {_shown(classes)}. For instance "
            "classes=[0], classes=['cat', 'dog'] or classes='all'."
        )
    if not any(str(word).strip() for word in _entries(classes)):
        raise ClassError("classes: expected all, top3, indices or names, got nothing.")


def check_batch_size(batch_size: int | None) -> None:
    """Refuse a number of images per batch below 1.

    Raises:
        InputError: it is.
    """
    if batch_size is not None and not (isinstance(batch_size, Integral) and batch_size >= 1):
        raise InputError(
            f"batch_size: expected a number from 1, or None, got {_shown(batch_size)}."
        )


def check_device(device: str) -> None:
    """Refuse what is not the name of a device; whether this machine has it shows later.

    Raises:
        ModelError: it is not.
    """
    word = device if isinstance(device, str) else ""
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", word):
        raise ModelError(
            f"device: expected auto, cpu, cuda, cuda:N or mps, got {_shown(device)}."
            + suggestion(word, ("auto", "cpu", "cuda", "mps"))
        )


def check_switch(option: str, value: object) -> None:
    """Refuse what is neither True nor False: a text such as ``no`` would count as True.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(value, bool):
        raise InputError(f"{option}: expected True or False, got {_shown(value)}.")


def check_labels(labels: object) -> None:
    """Refuse labels that are neither a word or path nor a mapping.

    Raises:
        ClassError: they are neither.
    """
    if labels is not None and not isinstance(labels, str | Path | Mapping):
        raise ClassError(
            f"labels: expected 'folder', 'tar', a CSV file or a mapping, got {_shown(labels)}. For "
            "instance labels={'a.jpg': 'cat'}."
        )


def check_label_map(label_map: object) -> None:
    """Refuse a map of labels that is neither a text nor a mapping.

    Raises:
        ClassError: it is neither.
    """
    if label_map is not None and not isinstance(label_map, str | Mapping):
        raise ClassError(
            f"label_map: expected a text or a mapping, got {_shown(label_map)}. For instance "
            "label_map={'cat': [281, 282]}."
        )


def check_addresses(option: str, addresses: object) -> None:
    """Refuse layers that are no addresses by the way they are written.

    Args:
        option: the argument's name, for the message.
        addresses: what should be a sequence of addresses; None leaves the choice to the model.

    Raises:
        LayerError: they are not.
    """
    if addresses is None:
        return
    if isinstance(addresses, str) or not isinstance(addresses, Sequence):
        raise LayerError(
            f"{option}: expected a list of addresses, got {_shown(addresses)}. For instance "
            f"{option}=['features.9', 'features.12']."
        )
    if not addresses:
        raise LayerError(f"{option}: expected at least one address, or 'auto', got none.")
    for one in addresses:
        if not isinstance(one, str):
            raise LayerError(f"{option}: expected addresses as text, got {_shown(one)}.")
        check_address(one)


def check_groups(columns: object) -> None:
    """Refuse columns of groups that are no list of headings.

    Raises:
        ClassError: they are not.
    """
    if columns is None:
        return
    listed = list(columns) if isinstance(columns, Sequence) and not isinstance(columns, str) else []
    if not listed or not all(isinstance(one, str) and one.strip() for one in listed):
        raise ClassError(
            f"groups: expected a list of headings of columns, got {_shown(columns)}. For instance "
            "groups=['scanner']."
        )
    if len({one.casefold() for one in listed}) != len(listed):
        raise ClassError(f"groups: expected each column once, got {', '.join(listed)}.")


def check_contributions(layer: str) -> None:
    """Refuse a layer of contributions that is neither an address nor ``auto`` nor ``off``.

    Raises:
        LayerError: it is not.
    """
    if not isinstance(layer, str) or not layer.strip():
        raise LayerError(f"contributions: expected auto, off or an address, got {_shown(layer)}.")
    check_address(layer)


def check_address(address: str) -> None:
    """Refuse an address that ends in neither ``:pre`` nor ``#call`` but in something like them.

    Raises:
        LayerError: it does.
    """
    name, colon, variant = address.strip().partition(":")
    name, hash_sign, call = name.partition("#")
    if (colon and variant != "pre") or (hash_sign and not call.isdecimal()):
        raise LayerError(
            f"layer: expected 'name', 'name:pre' or 'name#call', got {address.strip()!r}. "
            f"For instance {name}:pre or {name}#0."
        )


def check_evidence(level: str) -> None:
    """Refuse a word that is no level of evidence.

    Raises:
        InputError: it is not.
    """
    _check_word("evidence", level, LEVELS)


def check_evidence_maps(maps: str) -> None:
    """Refuse a word that does not say which maps are covered in order.

    Raises:
        InputError: it does not.
    """
    _check_word("evidence_maps", maps, EVIDENCE_MAPS)


def check_evidence_images(images: int | str | None) -> None:
    """Refuse what is neither a number of images nor all of them.

    Raises:
        InputError: it is neither.
    """
    whole = isinstance(images, Integral) and not isinstance(images, bool) and images >= 1
    if not (images in (None, ALL) or whole):
        raise InputError(
            f"evidence_images: expected {ALL!r} or a number from 1, got {_shown(images)}."
        )


def check_regions(regions: object) -> None:
    """Refuse what is no path of regions.

    Raises:
        InputError: it is not.
    """
    if regions is not None and not isinstance(regions, str | Path):
        raise InputError(f"regions: expected a file or a folder, got {_shown(regions)}.")


def check_metrics(metrics: object) -> None:
    """Refuse what is no list of names.

    Raises:
        InputError: it is not.
    """
    if not isinstance(metrics, str) and not (
        isinstance(metrics, Sequence) and all(isinstance(name, str) for name in metrics)
    ):
        raise InputError(
            f"metrics: expected a list of names, got {_shown(metrics)}. 'camreport metrics' lists "
            "them."
        )


def check_class_names(class_names: object) -> None:
    """Refuse class names that are neither a sequence of texts nor the path of a file.

    Raises:
        ClassError: they are not.
    """
    if class_names is None or isinstance(class_names, Path):
        return
    if isinstance(class_names, str) or not isinstance(class_names, Sequence):
        raise ClassError(
            f"class names: expected a list of names, got {_shown(class_names)}. For instance "
            "class_names=['cat', 'dog']."
        )
    wrong = [name for name in class_names if not isinstance(name, str)]
    if wrong:
        raise ClassError(f"class names: expected names as text, got {_shown(wrong[0])}.")


def check_model(model: object, weights: str) -> None:
    """Refuse a model's name that leads nowhere, as far as that shows without torch.

    Args:
        model: a name; anything else is left to ``load_model``.
        weights: ``default`` or ``none``.

    Raises:
        ModelError: no such file, no such classifier in torchvision's code, no such weights.
    """
    check_weights(weights)
    if not isinstance(model, str) or model in (BUNDLED, EFFICIENTNET_LITE0):
        return
    if is_own_code(model):
        where = model.rpartition(":")[0]
        if where.endswith(".py"):
            check_code_file(Path(where))
    elif not model.startswith(TIMM):
        source = _torchvision_source()
        if source and (not model.isidentifier() or f"\ndef {model}(" not in source):
            registered = re.findall(r"\n@register_model\(.*\)\n(?:@.*\n)*def (\w+)\(", source)
            raise unknown_model(model, registered)


def check_weights(weights: str) -> None:
    """Refuse a word for weights that is none of ``WEIGHTS``.

    Raises:
        ModelError: it is not.
    """
    if weights not in WEIGHTS:
        raise ModelError(f"weights: expected {' or '.join(WEIGHTS)}, got {weights!r}.")


def is_own_code(name: str) -> bool:
    """Say whether a model's name leads to code: ``file.py:build`` or ``package.module:build``."""
    where, colon, attribute = name.rpartition(":")
    return bool(colon and where) and attribute.isidentifier()


def check_code_file(path: Path) -> None:
    """Refuse a file of the user's code that is not there.

    Raises:
        ModelError: it is not.
    """
    if not path.is_file():
        raise ModelError(f"model: there is no file {str(path)!r}.")


def unknown_model(name: str, classifiers: Sequence[str]) -> ModelError:
    """Return the error for a name that no source of models knows.

    Args:
        name: as given.
        classifiers: torchvision's names.
    """
    return ModelError(
        f"model: expected '{BUNDLED}', '{EFFICIENTNET_LITE0}', a torchvision classifier, "
        f"'{TIMM}NAME' or 'file.py:build', got {name!r}."
        + (
            (f" Say what builds it: {name}:build." if name.endswith(".py") else "")
            or suggestion(name, [BUNDLED, EFFICIENTNET_LITE0, *classifiers])
            or " For instance 'resnet18'."
        )
    )


def check_checkpoint(checkpoint: str | Path | None) -> None:
    """Refuse a weights file that is not there, or is no regular file.

    Raises:
        ModelError: it is not.
    """
    if checkpoint is None:
        return
    path = Path(checkpoint)
    if not os.path.isfile(path):
        there = "is no regular file" if os.path.exists(path) else "does not exist"
        raise ModelError(f"checkpoint: {path.name} cannot be read: {str(path)!r} {there}.")


def check_part(part: str | None) -> None:
    """Refuse a part of a run that is not one of its parts.

    Raises:
        InputError: it is not ``K/N`` with K from 1 to N.
    """
    if part is not None:
        split_part(part)


def split_part(part: str) -> tuple[int, int]:
    """Return K and N of a part ``K/N``.

    Raises:
        InputError: as for ``check_part``.
    """
    number, _, count = part.partition("/") if isinstance(part, str) else ("", "", "")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise InputError(
        f"part: expected K/N with K from 1 to N, such as 1/16 to 16/16, got {_shown(part)}."
    )


def check_on(on: str | None) -> None:
    """Refuse a word for a cluster that is none of ``CLUSTERS``.

    Raises:
        InputError: it is not.
    """
    if on is not None:
        _check_word("on", on, CLUSTERS)


def check_workers(workers: int | None) -> None:
    """Refuse a number of processes that makes no sense.

    Raises:
        InputError: it is no whole number from 1.
    """
    is_whole = isinstance(workers, Integral) and not isinstance(workers, bool)
    if workers is not None and not (is_whole and 1 <= workers <= MAX_WORKERS):
        raise InputError(
            f"workers: expected a whole number from 1 to {MAX_WORKERS:,}, got {_shown(workers)}."
        )


def _check_word(option: str, word: object, words: Sequence[str]) -> None:
    """Refuse a value that is none of a few words.

    Raises:
        InputError: it is not.
    """
    if word not in words:
        raise InputError(
            f"{option}: expected {', '.join(words[:-1])} or {words[-1]}, got {_shown(word)}."
            + (suggestion(word, words) if isinstance(word, str) else "")
        )


def _entries(given: str | Sequence[int | str]) -> Sequence[int | str]:
    return split_list(given) if isinstance(given, str) else given


def _shown(value: object) -> str:
    """Return a text as it is written, a number as it prints, of anything else its type."""
    if isinstance(value, str):
        return repr(value)
    return str(value) if isinstance(value, Real) else type(value).__name__


def _torchvision_source() -> str:
    """Return the code of torchvision's classifiers, unexecuted; nothing where it is not found."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return ""
    files = sorted((Path(found.origin).parent / "models").glob("*.py"))
    return "\n".join(file.read_text("utf-8") for file in files)
