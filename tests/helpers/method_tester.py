"""One harness for every method: what must hold of its maps, whatever the method is.

A check takes a ``MethodTester``; ``CHECKS`` lists them. ``tests/test_methods.py`` runs each check
for each method of the table, so a new method is checked as soon as it is registered.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from camreport import explain
from camreport.methods import METHODS, Method
from camreport.methods.fusion import normalise
from camreport.methods.registry import (
    ABLATED,
    ACTIVATION,
    GRADIENT,
    GUIDED,
    HEAD,
    INPUT_GRADIENT,
    KEPT,
    LOOK_ALIKES,
    MASKED,
    NOISE,
    POOL_GRADIENT,
    SHARED_MASKS,
)
from helpers import reference
from helpers.nets import IMAGES, gap_net, spatial_net

Maps = dict[str, Tensor]
"""One method's maps by layer, ``(N, K, ...)``."""

COMPANY = ("grad_cam", "eigen_cam", "ablation_cam")
"""Methods that are computed together with the one under test."""

NOT_LINEAR = (
    *("grad_cam_plus_plus", "smooth_grad_cam_plus_plus"),
    *("score_cam", "score_cam_pgc", "score_cam_torchcam"),
)
"""Methods whose weights are not linear in the logits: their maps change with the logits' scale."""

EMPTY_ON_ONE_CELL = ("score_cam",)
"""Methods that give a channel of a single value no weight."""


@dataclass(frozen=True)
class MethodTester:
    """A method, and a net and images for which it is defined.

    Attributes:
        key: of the method.
        make_net: builds the net, seeded, in float64.
        places: indexes of the net's modules that are explained.
        images: ``(N, 3, H, W)``, float64.
        targets: classes, or ``all``.
    """

    key: str
    make_net: Callable[[], nn.Sequential]
    places: tuple[int, ...]
    images: Tensor = IMAGES
    targets: "tuple[int, ...] | str" = "all"

    @classmethod
    def of(cls, key: str) -> "MethodTester":
        """Return a tester on a net in which gradients vary over space, where that is possible."""
        if METHODS[key].needs is HEAD:
            return cls(key, gap_net, (3,))
        return cls(key, spatial_net, (2, 5))

    @property
    def method(self) -> Method:
        """The method's line in the table."""
        return METHODS[self.key]

    def maps(
        self, *, net: nn.Module | None = None, methods: tuple[str, ...] = (), flip: bool = False
    ) -> Maps:
        """Return the method's maps.

        Args:
            net: instead of the tester's own.
            methods: that are asked for, instead of this one alone.
            flip: name the layers in reverse.
        """
        layers = [str(place) for place in (self.places[::-1] if flip else self.places)]
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        chosen = list(methods or (self.key,))
        return explain(net or self.make_net(), self.images, layers, chosen, targets).maps[self.key]


# Against an oracle


@dataclass(frozen=True)
class View:
    """One image and class at one place of a net, which is cut in two there."""

    net: nn.Sequential
    place: int
    image: Tensor
    target: int

    @property
    def activation(self) -> Tensor:
        """What the place returns, ``(C, h, w)``."""
        return self.net[: self.place + 1](self.image[None])[0].detach()

    def gradient(self, place: int, target: int, image: Tensor) -> Tensor:
        """Return d logit / d what the net has computed at a place, for one image."""
        value = self.net[: place + 1](image[None]).detach().requires_grad_()
        logits = self.net[place + 1 :](value.clone())  # a ReLU in place may come next
        return torch.autograd.grad(logits[0, target], value)[0][0]

    def of_look_alikes(self) -> tuple[Tensor, Tensor, int]:
        """Return the gradients of all classes, the logits, and the class."""
        classes = range(self.net[-1].out_features)
        slopes = [self.gradient(self.place, c, self.image) for c in classes]
        return torch.stack(slopes), reference.logits_of(self.net, self.image), self.target

    def under_noise(self) -> list[Tensor]:
        """Return the gradients for four noisy copies: seed 0, standard deviation 0.3."""
        generator = torch.Generator().manual_seed(0)
        noises = [torch.randn(self.image.shape, generator=generator) * 0.3 for _ in range(4)]
        return [self.gradient(self.place, self.target, self.image + noise) for noise in noises]

    def behind_the_pool(self) -> Tensor:
        """Return the gradient behind the pooling that follows, or at the place itself."""
        pool = self.place + isinstance(self.net[self.place + 1], nn.MaxPool2d)
        return self.gradient(pool, self.target, self.image)

    def guided(self, method: Method) -> Tensor:
        """Return guided backpropagation, under Grad-CAM where a method asks for a layer."""
        saliency = reference.guided_backprop(self.net, self.image, self.target)
        if method.scope == "network":
            return saliency
        own = self.gradient(self.place, self.target, self.image)
        cam = reference.grad_cam(self.activation, own)
        return getattr(reference, method.key)(saliency, cam)

    def expected(self, method: Method) -> Tensor:
        """Return what the method's oracle says."""
        if method.needs is GUIDED:
            return self.guided(method)
        net, place, image, target = self.net, self.place, self.image, self.target
        asked = (net, net[place], image, target)
        given: dict[object, Callable[[], tuple[object, ...]]] = {
            GRADIENT: lambda: (self.activation, self.gradient(place, target, image)),
            ACTIVATION: lambda: (self.activation,),
            HEAD: lambda: (self.activation, net[-1].weight[target]),
            POOL_GRADIENT: lambda: (self.activation, self.behind_the_pool()),
            LOOK_ALIKES: lambda: (self.activation, *self.of_look_alikes()),
            NOISE: lambda: (self.activation, self.under_noise()),
            INPUT_GRADIENT: lambda: (net, image, target),
            **dict.fromkeys((MASKED, ABLATED, KEPT, SHARED_MASKS), lambda: asked),
        }
        return getattr(reference, method.key)(*given[method.needs]())


def equals_its_oracle(tester: MethodTester) -> None:
    """Demand the oracle's maps, layer by layer, image by image, class by class."""
    tester = replace(tester, targets=(4, 1))
    for layer, cams in tester.maps().items():
        if layer == "fused":
            continue  # its oracle is in test_fusion.py
        place = tester.places[-1] if layer == "input" else int(layer)
        net = tester.make_net()
        for n, image in enumerate(tester.images):
            for k, target in enumerate(tester.targets):
                expected = View(net, place, image, int(target)).expected(tester.method).detach()
                largest = float(expected.abs().amax())
                empty = expected.numel() == 1 and tester.key in EMPTY_ON_ONE_CELL
                assert (largest == 0) == empty
                assert_close(cams[n, k].double(), expected, rtol=1e-6, atol=1e-6 * largest)


def equals_its_oracle_on_a_single_cell(tester: MethodTester) -> None:
    """Demand the oracle's maps at a layer of 1 × 1."""
    equals_its_oracle(replace(tester, make_net=gap_net, places=(3,), images=SMALL))


SMALL = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
"""Images of which gap_net leaves a single cell."""


# Against itself


def permutes_with_the_batch(tester: MethodTester) -> None:
    """Demand that reversed images give reversed maps."""
    flipped = replace(tester, images=tester.images.flip(0)).maps()
    assert_same(flipped, {layer: cams.flip(0) for layer, cams in tester.maps().items()})


def is_the_same_one_by_one(tester: MethodTester) -> None:
    """Demand that an image alone gives what it gives in a batch."""
    together = tester.maps()
    for n, image in enumerate(tester.images):
        alone = replace(tester, images=image[None]).maps()
        assert_same(alone, {layer: cams[n : n + 1] for layer, cams in together.items()})


def is_the_same_in_any_order_of_layers(tester: MethodTester) -> None:
    """Demand that layers named in reverse give the same maps under their names."""
    assert_same(tester.maps(flip=True), tester.maps())


def is_the_same_in_company(tester: MethodTester) -> None:
    """Demand that a method gives the same before other methods, behind them, and alone."""
    alone = tester.maps()
    others = tuple(key for key in COMPANY if key != tester.key)
    for methods in ((tester.key, *others), (*others, tester.key)):
        assert_same(tester.maps(methods=methods), alone)


def is_the_same_class_by_class(tester: MethodTester) -> None:
    """Demand that K = 1, K = all and classes in reverse give the same maps."""
    together = tester.maps()
    count = next(iter(together.values())).shape[1]
    for k in range(count):
        alone = replace(tester, targets=(k,)).maps()
        assert_same(alone, {layer: cams[:, k : k + 1] for layer, cams in together.items()})
    flipped = replace(tester, targets=tuple(reversed(range(count)))).maps()
    assert_same(flipped, {layer: cams.flip(1) for layer, cams in together.items()})


def repeats_itself_exactly(tester: MethodTester, device: str = "cpu") -> None:
    """Demand that equal runs give equal bits."""
    first, second = (tester.maps(net=tester.make_net().to(device)) for _ in range(2))
    assert_same(first, second, tolerance=0)


def is_the_same_on(tester: MethodTester, device: str) -> None:
    """Demand of another device the CPU's maps, in float32."""
    single = replace(tester, images=tester.images.float())
    moved = single.maps(net=tester.make_net().float().to(device))
    assert_same(moved, single.maps(net=tester.make_net().float()), tolerance=1e-4)


def is_the_same_in_float32(tester: MethodTester) -> None:
    """Demand that a float32 net gives the float64 net's maps up to rounding."""
    single = replace(tester, images=tester.images.float()).maps(net=tester.make_net().float())
    assert {cams.dtype for cams in single.values()} == {torch.float32}
    assert_same(single, tester.maps(), tolerance=1e-3)


def scales_with_the_logits(tester: MethodTester) -> None:
    """Demand that normalised maps do not change with the logits' scale, but where they must."""
    plain = tester.maps()
    net = tester.make_net()
    with torch.no_grad():
        net[-1].weight.mul_(8)
        net[-1].bias.mul_(8)
    scaled = tester.maps(net=net)
    changed = max(
        float((normalise(scaled[layer]) - normalise(cams)).abs().amax())
        for layer, cams in plain.items()
        if layer != "fused"
    )
    assert (changed > 1e-3) == (tester.key in NOT_LINEAR), changed


def is_constant_where_nothing_varies(tester: MethodTester) -> None:
    """Demand one value for a whole map where every channel is constant: no edge, no spot."""
    constant = torch.ones_like(tester.images) * tester.images[:, :, :1, :1]
    for layer, cams in (
        replace(tester, make_net=gap_net, places=(3,), images=constant).maps().items()
    ):
        assert cams.isfinite().all()
        if layer != "input" and tester.method.grid == "layer":
            spread = cams.amax((-2, -1)) - cams.amin((-2, -1))
            assert spread.amax() <= 1e-5 * cams.abs().amax().clamp(min=1e-30)


CHECKS: tuple[Callable[[MethodTester], None], ...] = (
    equals_its_oracle,
    equals_its_oracle_on_a_single_cell,
    permutes_with_the_batch,
    is_the_same_one_by_one,
    is_the_same_in_any_order_of_layers,
    is_the_same_in_company,
    is_the_same_class_by_class,
    repeats_itself_exactly,
    is_the_same_in_float32,
    scales_with_the_logits,
    is_constant_where_nothing_varies,
)
"""What every method keeps."""


def assert_same(one: Maps, other: Maps, tolerance: float = 1e-5) -> None:
    """Demand equal maps at the same layers, up to a fraction of each layer's largest value."""
    assert one.keys() == other.keys()
    for layer, cams in other.items():
        largest = float(cams.abs().amax())
        assert_close(
            one[layer].double(), cams.double(), rtol=tolerance, atol=tolerance * largest, msg=layer
        )
