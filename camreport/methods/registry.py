"""The one table of methods: command line, gallery, documents and tests all read it.

To add a method: its function in this package, its line in ``METHODS``, its oracle in
``tests/helpers/reference.py``. Nothing here imports torch.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from camreport.errors import MethodError, suggestion
from camreport.methods import activation, backprop, gradient, perturbation
from camreport.settings import split_list

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Need:
    """What a kind of method is computed from, which decides what it costs.

    Attributes:
        name: in a word or two, for tables.
        passes: the passes it shares with others: costs are counted by these.
        family: the heading under which reports group its methods.
        cost: passes in words, per batch of images unless it says otherwise.
        changes: it changes images or layers and asks the network again, image by image.
        random: it draws noise.
    """

    name: str
    passes: str
    family: str
    cost: str
    changes: bool = False
    random: bool = False


SHARED = "shared passes"
"""The passes whose activations and gradients most methods are made of."""

_A_AND_G = "Activations and gradients"
_PIXELS = "Down to the pixels"
_CHANGES = "Changes and their effect"

GRADIENT = Need("gradient", SHARED, _A_AND_G, "1 forward, 1 backward per class, all methods alike")
ACTIVATION = Need("activation", SHARED, _A_AND_G, "the shared forward")
HEAD = Need("activation, classifier", SHARED, _A_AND_G, "the shared forward")
POOL_GRADIENT = Need("gradient behind the pool", SHARED, _A_AND_G, "the shared passes")
LOOK_ALIKES = Need("gradient of look-alikes", "look-alikes", _A_AND_G, "1 more backward per class")
NOISE = Need(
    "gradients under noise",
    "noisy copies",
    _A_AND_G,
    "4 more forwards, 4 backwards per class",
    random=True,
)
INPUT_GRADIENT = Need("input gradient", SHARED, _PIXELS, "the shared passes, down to the pixels")
GUIDED = Need("guided gradient", "guided passes", _PIXELS, "1 more forward, 1 backward per class")
MASKED = Need(
    "further forwards",
    "masked images",
    _CHANGES,
    "1 forward per channel and image, for all classes",
    changes=True,
)
ABLATED = Need(
    "tail",
    "tail passes",
    _CHANGES,
    "1 tail pass per channel and image, for all classes",
    changes=True,
)
KEPT = Need(
    "tail",
    "tail passes",
    _CHANGES,
    "1 tail pass per position and image, for all classes",
    changes=True,
)

PASSES = tuple(
    dict.fromkeys(need.passes for need in (GRADIENT, LOOK_ALIKES, NOISE, GUIDED, MASKED, ABLATED))
)
"""Kinds of passes, in the order in which they run."""


@dataclass(frozen=True)
class Method:
    """A CAM method as the command line, the gallery and the documents present it.

    Attributes:
        key: the function's name; the name in results and on the command line.
        name: as its paper writes it.
        compute: the pure function; what it takes depends on ``needs``.
        needs: what it is computed from.
        meaning: what a map shows, in one sentence.
        caution: what not to read into it, in one sentence.
        formula: one line of plain text.
        source: authors, year and address of the paper.
        layers: where it makes sense, in words.
        class_specific: False where all classes share one map.
        signed: negative values are evidence against the class and are drawn.
        non_negative: assumes A >= 0, so it is not computed in front of an activation.
        fuses: maps of several layers are also fused into one (LayerCAM).
        on_input: maps have the input's grid instead of the layer's.
        per_layer: False where one map stands for the whole network.
        per_channel: one map per channel, ``(C, h, w)``.
        smooths: the smoothing options apply: a sum over channels of activation and gradient.
        from_least: drawn from its least value up; only differences within a map mean something.
        masks: how Score-CAM's variants turn channels ``(M, h, w)`` into masks ``(M, H, W)``.
        weighs_by: which score of a changed pass it reads; None where the task's quantity decides.
        largest_grid: most positions of a layer at which ``all`` includes it; None is any.
        by_name: left out of ``all``: a library's variant, or too large to keep unasked.
        aliases: further names that are in use.
    """

    key: str
    name: str
    compute: "Callable[..., Tensor]"
    needs: Need
    meaning: str
    caution: str
    formula: str
    source: str
    layers: str = "any"
    class_specific: bool = True
    signed: bool = False
    non_negative: bool = False
    fuses: bool = False
    on_input: bool = False
    per_layer: bool = True
    per_channel: bool = False
    smooths: bool = False
    from_least: bool = False
    masks: "Callable[[Tensor, tuple[int, int]], Tensor] | None" = None
    weighs_by: str | None = None
    largest_grid: int | None = None
    by_name: bool = False
    aliases: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    method.key: method
    for method in (
        Method(
            key="grad_cam",
            name="Grad-CAM",
            compute=gradient.grad_cam,
            needs=GRADIENT,
            meaning="Weighs each channel by its average gradient: one number per channel decides.",
            caution="Good for roughly where at the last layers; averaging makes it spill over, "
            "and at shallow layers it shows texture rather than the class.",
            formula="R = Σₖ mean(Gₖ) · Aₖ",
            source="Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391",
            layers="late",
            smooths=True,
        ),
        Method(
            key="grad_cam_plus_plus",
            name="Grad-CAM++",
            compute=gradient.grad_cam_plus_plus,
            needs=GRADIENT,
            meaning="Weighs each channel by its positive gradients only, so that several objects "
            "of the class can show.",
            caution="Its weights follow from the assumption of an exponential score, and it is "
            "less class-specific than it looks.",
            formula="R = Σₖ wₖ · Aₖ,  wₖ = Σ relu(Gₖ) / (2 + Gₖ · ΣAₖ)",
            source="Chattopadhyay et al. 2018, https://arxiv.org/abs/1710.11063",
            layers="late, A ≥ 0",
            non_negative=True,
            aliases=("gradcampp",),
            smooths=True,
        ),
        Method(
            key="smooth_grad_cam_plus_plus",
            name="Smooth Grad-CAM++",
            compute=gradient.smooth_grad_cam_plus_plus,
            needs=NOISE,
            meaning="Averages Grad-CAM++’s derivatives over noisy copies of the image.",
            caution="Smoother is not more faithful; the result depends on the noise and its seed.",
            formula="R = Σₖ wₖ · Aₖ,  wₖ = Σ D₂ / (2 D₂ + D₃ · ΣAₖ) · relu(D₁),  Dₙ = mean(Gₖⁿ)",
            source="Omeiza et al. 2019, https://arxiv.org/abs/1908.01224",
            layers="late, A ≥ 0",
            non_negative=True,
            aliases=("smoothgradcampp",),
        ),
        Method(
            key="xgrad_cam",
            name="XGrad-CAM",
            compute=gradient.xgrad_cam,
            needs=GRADIENT,
            meaning="Chooses channel weights so that the map adds up to the part of the score that "
            "the activations explain.",
            caution="Reads like Grad-CAM, with a bookkeeping guarantee: the total is right, "
            "the place of each part is still an average.",
            formula="R = Σₖ wₖ · Aₖ,  wₖ = Σ Gₖ Aₖ / Σ Aₖ",
            source="Fu et al. 2020, https://arxiv.org/abs/2008.02312",
            layers="late, A ≥ 0",
            non_negative=True,
            smooths=True,
        ),
        Method(
            key="hires_cam",
            name="HiResCAM",
            compute=gradient.hires_cam,
            needs=GRADIENT,
            meaning="Multiplies gradient and activation at each position, keeping sign and place.",
            caution="Negative areas argue against the class: they are drawn, not cut off.",
            formula="R = Σₖ Gₖ ⊙ Aₖ",
            source="Draelos & Carin 2020, https://arxiv.org/abs/2011.08891",
            signed=True,
            smooths=True,
        ),
        Method(
            key="grad_cam_elementwise",
            name="Grad-CAM elementwise",
            compute=gradient.grad_cam_elementwise,
            needs=GRADIENT,
            meaning="Multiplies gradient and activation at each position and keeps what is "
            "positive.",
            caution="Where activations are not negative it is the same map as LayerCAM: two "
            "columns that agree are one piece of evidence.",
            formula="R = Σₖ relu(Gₖ ⊙ Aₖ)",
            source="Gildenblat et al. 2021, https://github.com/jacobgil/pytorch-grad-cam",
            smooths=True,
        ),
        Method(
            key="layer_cam",
            name="LayerCAM",
            compute=gradient.layer_cam,
            needs=GRADIENT,
            meaning="Weighs each position by its own positive gradient, which makes shallow "
            "layers readable.",
            caution="It shows what would raise the score locally, never what counts against it, so "
            "the maps of two classes can look alike.",
            formula="R = Σₖ relu(Gₖ) ⊙ Aₖ",
            source="Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943",
            fuses=True,
            smooths=True,
        ),
        Method(
            key="layer_cam_pool_gradient",
            name="LayerCAM (pool gradient)",
            compute=gradient.layer_cam_pool_gradient,
            needs=POOL_GRADIENT,
            meaning="LayerCAM with the gradient behind the following pooling layer, enlarged: "
            "the grid of dots at shallow layers is gone.",
            caution="The gradient is interpolated, so fine detail comes from the activations "
            "alone; without a pooling layer behind it, it is the elementwise map.",
            formula="R = Σₖ relu(Aₖ ⊙ up(Gₖ behind the pool))",
            source="Jiang et al. 2021, their localisation code, "
            "https://github.com/PengtaoJiang/layercam_loc",
            layers="in front of a pooling layer",
            fuses=True,
            by_name=True,
            aliases=("layercampool",),
        ),
        Method(
            key="gradient_x_activation",
            name="Gradient × activation",
            compute=gradient.gradient_x_activation,
            needs=GRADIENT,
            meaning="Shows what each channel contributes before they are added up; the report "
            "draws the channel that contributes most.",
            caution="Use it to see which of the feature maps matter for this class, not just "
            "which are bright; a single channel is a small part of the score.",
            formula="Rₖ = Gₖ ⊙ Aₖ",
            source="Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713",
            signed=True,
            per_channel=True,
            by_name=True,
            aliases=("gradxactivation", "layergradientxactivation", "inputxgradient"),
        ),
        Method(
            key="finer_cam",
            name="Finer-CAM",
            compute=gradient.grad_cam,
            needs=LOOK_ALIKES,
            meaning="Explains why this class rather than its look-alikes: Grad-CAM of the logit "
            "minus 0.6 × the mean logit of the three nearest classes.",
            caution="Read it beside the plain map: what the classes have in common vanishes by "
            "design.",
            formula="R = Grad-CAM of  s_c − 0.6 · mean(s_d)",
            source="Zhang et al. 2025, https://arxiv.org/abs/2501.11309",
            layers="late",
            smooths=True,
        ),
        Method(
            key="cam",
            name="CAM",
            compute=activation.cam,
            needs=HEAD,
            meaning="Weighs the last feature maps by the classifier’s own weights for the class.",
            caution="Exact for networks that end in global average pooling and one linear layer, "
            "and not defined for any other, such as AlexNet or VGG.",
            formula="R = Σₖ W_ck · Aₖ",
            source="Zhou et al. 2016, https://arxiv.org/abs/1512.04150",
            layers="the last, in front of global average pooling",
        ),
        Method(
            key="eigen_cam",
            name="Eigen-CAM",
            compute=activation.eigen_cam,
            needs=ACTIVATION,
            meaning="Draws the main pattern shared by all channels.",
            caution="It ignores the class entirely: use it as a control.",
            formula="R = X v₁,  X = A as (hw × C), not centred",
            source="Muhammad & Yeasin 2020, https://arxiv.org/abs/2008.00299",
            class_specific=False,
        ),
        Method(
            key="eigen_grad_cam",
            name="EigenGrad-CAM",
            compute=activation.eigen_grad_cam,
            needs=GRADIENT,
            meaning="Draws the main pattern of gradient × activation: class-aware and tidy.",
            caution="The sign is a convention (the one that agrees with HiResCAM), so compare "
            "the shape only.",
            formula="R = X v₁,  X = G ⊙ A as (hw × C), not centred",
            source="Gildenblat et al. 2021, https://github.com/jacobgil/pytorch-grad-cam",
            signed=True,
        ),
        Method(
            key="guided_backprop",
            name="Guided backpropagation",
            compute=backprop.guided_backprop,
            needs=GUIDED,
            meaning="Lets only positive signals flow back to the pixels, which gives crisp edges.",
            caution="It largely reconstructs the image and barely depends on the class or even "
            "on the trained weights.",
            formula="R = ∂s/∂x with G · 1[z > 0] · 1[G > 0] at each ReLU",
            source="Springenberg et al. 2015, https://arxiv.org/abs/1412.6806",
            layers="input; ReLU networks",
            signed=True,
            on_input=True,
            per_layer=False,
            aliases=("guidedbackpropagation", "guidedbp", "gbp"),
        ),
        Method(
            key="guided_grad_cam",
            name="Guided Grad-CAM",
            compute=backprop.guided_grad_cam,
            needs=GUIDED,
            meaning="Guided backpropagation, shown only where Grad-CAM is active.",
            caution="The place comes from Grad-CAM; the fine lines are no evidence.",
            formula="R = guided backpropagation ⊙ up(relu(Grad-CAM))",
            source="Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391",
            layers="late; ReLU networks",
            signed=True,
            on_input=True,
        ),
        Method(
            key="full_grad",
            name="FullGrad",
            compute=backprop.full_grad,
            needs=INPUT_GRADIENT,
            meaning="Adds up the shares of the input and of every bias in the network.",
            caution="Complete as a sum, but the map takes absolute values: it loses the sign and "
            "depends only weakly on the class.",
            formula="R = Σ ψ(x ⊙ ∂s/∂x) + Σ_layers Σₖ ψ(bₖ ⊙ ∂s/∂zₖ)",
            source="Srinivas & Fleuret 2019, https://arxiv.org/abs/1905.00780",
            layers="the whole network",
            on_input=True,
            per_layer=False,
            aliases=("fullgradcam", "fullgradient"),
        ),
        Method(
            key="score_cam",
            name="Score-CAM",
            compute=perturbation.score_cam,
            needs=MASKED,
            masks=perturbation.scaled_after_enlarging,
            weighs_by="probability",
            meaning="Shows the network the image through each channel’s map and trusts the "
            "channels that keep the class probable.",
            caution="Needs no gradient, but depends on what masked pixels are replaced with and "
            "on the softmax; and it is slow.",
            formula="R = Σₖ p_c(x ⊙ Hₖ) · Aₖ,  Hₖ = Aₖ enlarged, 0 to 1",
            source="Wang et al. 2020, https://arxiv.org/abs/1910.01279",
            layers="late",
        ),
        Method(
            key="score_cam_pgc",
            name="Score-CAM (grad-cam)",
            compute=perturbation.score_cam_softmax,
            needs=MASKED,
            masks=perturbation.scaled_after_enlarging_by_corners,
            weighs_by="logit",
            meaning="Score-CAM with the library pytorch-grad-cam’s weights: a softmax of the "
            "logits over all channels.",
            caution="The softmax over channels depends on the size of the logits and can come "
            "down to one channel.",
            formula="R = Σₖ softmaxₖ(s_c(x ⊙ Hₖ)) · Aₖ",
            source="pytorch-grad-cam 1.5.7, https://github.com/jacobgil/pytorch-grad-cam",
            layers="late",
            by_name=True,
        ),
        Method(
            key="score_cam_torchcam",
            name="Score-CAM (torchcam)",
            compute=perturbation.score_cam_softmax,
            needs=MASKED,
            masks=perturbation.enlarged_after_scaling,
            weighs_by="logit",
            meaning="Score-CAM with the library torchcam’s masks and a softmax of the logits over "
            "all channels.",
            caution="The softmax over channels depends on the size of the logits and can come "
            "down to one channel.",
            formula="R = Σₖ softmaxₖ(s_c(x ⊙ Hₖ)) · Aₖ,  Hₖ = Aₖ from 0 to 1, enlarged",
            source="torchcam 0.5.0, https://github.com/frgfm/torch-cam",
            layers="late",
            by_name=True,
        ),
        Method(
            key="ablation_cam",
            name="Ablation-CAM",
            compute=perturbation.ablation_cam,
            needs=ABLATED,
            meaning="Switches off one channel at a time and weighs it by how far the score drops.",
            caution="It answers whether a channel is needed alone and misses channels that stand "
            "in for each other.",
            formula="R = Σₖ (s_c − s_c without Aₖ) · Aₖ",
            source="Desai & Ramaswamy 2020, https://doi.org/10.1109/WACV45572.2020.9093360",
            layers="late",
        ),
        Method(
            key="recipro_cam",
            name="Recipro-CAM",
            compute=perturbation.recipro_cam,
            needs=KEPT,
            meaning="Keeps one position of the feature maps at a time and reads the score.",
            caution="Fast, but the network sees feature maps it never met in training; only "
            "differences within a map mean something.",
            formula="R(p) = s_c(A at p, 0 elsewhere)",
            source="Byun & Lee 2024, https://arxiv.org/abs/2209.14074",
            layers="late",
            from_least=True,
            largest_grid=14 * 14,
        ),
    )
}
"""Every method by its key, in the order in which tables show them."""

DEFAULT_METHODS = ("grad_cam", "layer_cam")
"""What is compared when nobody says otherwise."""


def resolve_methods(names: str | Iterable[str]) -> list[Method]:
    """Find methods by names in any of the field's spellings, without repeats.

    Case, spaces, dashes and underscores do not matter: ``gradcam``, ``Grad-CAM``, ``GradCAM++``.
    ``all`` takes one variant of each method; what is asked for by name has no largest grid.

    Args:
        names: ``all``, names separated by commas, or a sequence of names.

    Raises:
        MethodError: a name is unknown, or there is none.
    """
    listed = split_list(names) if isinstance(names, str) else list(names)
    by_spelling = {
        _spelling(name): method
        for method in METHODS.values()
        for name in (*method.aliases, method.name, method.key)
    }
    found: dict[str, Method] = {}
    for name in filter(str.strip, listed):
        if _spelling(name) == "all":
            found = {k: m for k, m in METHODS.items() if not m.by_name} | found
        elif _spelling(name) in by_spelling:
            method = by_spelling[_spelling(name)]
            found[method.key] = replace(method, largest_grid=None)
        else:
            near = suggestion(name.strip().lower(), METHODS) or f" There are {', '.join(METHODS)}."
            raise MethodError(
                "methods: expected 'all' or names that 'camreport methods' lists, got "
                f"{name.strip()!r}.{near}"
            )
    if not found:
        raise MethodError(f"methods: expected at least one of {', '.join(METHODS)}, got none.")
    return list(found.values())


def _spelling(name: str) -> str:
    return re.sub(r"[\s_()-]", "", name.strip().lower()).replace("+", "plus").replace("×", "x")
