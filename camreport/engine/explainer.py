"""The engine: computes every map of a batch of images in as few passes as possible.

model ─▶ Draft (checked, no pass) ─▶ first forward ─▶ Plan ─▶ passes of every batch ─▶ Explanation
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import copy
from dataclasses import replace
from math import prod
from typing import Self

import torch
from torch import Tensor, nn

from camreport.engine.asked import Asked, Classifier, check_images, resolved, unpacked
from camreport.engine.batch import Batch, ClassBatching, PassCounter, Progress
from camreport.engine.cost import Cost
from camreport.engine.explained import explained
from camreport.engine.explanation import Explanation, join
from camreport.engine.forward import ForwardPass, named_forward_pass
from camreport.engine.memory import BatchPlanner, Limits, in_batches, one_image_fits
from camreport.engine.passes import PASSES
from camreport.engine.plan import Options, Plan, make_draft
from camreport.engine.probe import checked_draft, make_plan
from camreport.engine.targets import Targets, as_indices, choose_targets, of_rows
from camreport.engine.variants import Finished, Make, variant_logits
from camreport.errors import LayerError, MemoryLimitError, ModelError
from camreport.methods import DEFAULT_METHODS, Method, resolve_methods
from camreport.network.blame import raised_by
from camreport.network.memory import is_out_of_memory
from camreport.network.precision import check_precision_on, precision_of
from camreport.network.scrambled import Copies, scrambled
from camreport.network.state import (
    device_of,
    gradients_on,
    preserved,
    to_model,
)
from camreport.network.survey import sample_image
from camreport.settings import AUTO, EXACT, GAMMA


def _silent(_fraction: float) -> None:
    """Ignore progress."""


class Explainer:
    """A model that is surveyed, traced and planned once, and then explains many batches.

    Inside a ``with`` block the model stays in evaluation mode, without parameter gradients, until
    the block ends or fails. A call outside a block does the same for the time of the call. The
    model's state is restored afterwards.

    Args:
        model: a classifier from ``(N, 3, H, W)`` to logits, or the result of ``load_model``.
        layers: as for ``explain``, or a mapping of names to resolved layers.
        methods: names from the registry, in any spelling.
        channels: layers whose channels are kept with their Grad-CAM weights, in the format of
            ``layers``; None keeps no channels.
        contributions: layers of which the last one, among those with different tensors, keeps the
            contributions of its channels, in the format of ``layers``; None keeps none.
        quantity: the score to explain, as for ``explain``.
        gamma: steepness of the lift in LayerCAM's fusion.
        stages: how many early stages the fusion lifts.
        smooth: some of ``noise``, ``aug`` and ``eigen``.
        seed: random seed of the noise.
        output: key, attribute or index of the logits in the model's output.
        activation: how logits become probabilities, as for ``explain``.
        precision: arithmetic of the model's passes, as for ``explain``.
        input_shape: ``(C, H, W)`` of the images; not needed for a ``LoadedModel``.
        batch_size: images per batch; chosen from a byte budget if None.
        limits: the limits on batch and chunk sizes.

    Attributes:
        draft: the options and layers, checked against the model's code.

    Raises:
        LayerError, MethodError, ClassError, ModelError: as for ``explain``.
        MemoryLimitError: a single image does not fit into memory.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> with Explainer(net, ["0"], input_shape=(3, 8, 8)) as explainer:
        ...     maps = [explainer(torch.rand(2, 3, 8, 8), "all").maps for _ in range(3)]
        >>> tuple(maps[0]["layer_cam"]["0"].shape)
        (2, 2, 6, 6)
    """

    def __init__(
        self,
        model: nn.Module | Classifier,
        layers: Asked = None,
        methods: str | Sequence[str] = DEFAULT_METHODS,
        *,
        channels: Asked = None,
        contributions: Asked = None,
        quantity: str = "logit",
        gamma: float = GAMMA,
        stages: int | None = None,
        smooth: str | Sequence[str] = (),
        seed: int = 0,
        output: str | None = None,
        activation: str = AUTO,
        precision: str = EXACT,
        input_shape: tuple[int, ...] | None = None,
        batch_size: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        module, shape, output, activation = unpacked(model, input_shape, output, activation)
        chosen = tuple(resolve_methods(methods))
        scoring = quantity, gamma, stages, smooth, seed
        options = Options(chosen, *scoring, output, activation, precision)
        check_precision_on(device_of(module), precision)
        self._module, self._limits = module, limits or Limits.of(device_of(module))
        self._shape = shape
        self._batching = ClassBatching()
        self._asked_size = batch_size
        self._sizes = BatchPlanner(batch_size or self._limits.first_batch)
        self._plan: Plan | None = None
        self._entered, self._depth = ExitStack(), 0
        self._copies = Copies()
        sample = self._sample()
        with preserved(module):
            further = ({} if one is None else one for one in (channels, contributions))
            asked = (resolved(module, one, sample, output) for one in (layers, *further))
            own, kept, summed = asked
            draft = make_draft(module, own, options, kept, summed)
            self.draft = checked_draft(module, draft, sample, self._limits)

    @classmethod
    def of_options(
        cls,
        model: nn.Module | Classifier,
        layers: Asked,
        options: Options,
        *,
        input_shape: tuple[int, ...],
        batch_size: int | None = None,
        limits: Limits | None = None,
    ) -> "Explainer":
        """Return the explainer of options that are already put together; arguments as above."""
        return cls(
            model,
            layers,
            [method.key for method in options.methods],
            quantity=options.quantity,
            gamma=options.gamma,
            stages=options.stages,
            smooth=options.smooth,
            seed=options.seed,
            output=options.output,
            activation=options.activation,
            precision=options.precision,
            input_shape=input_shape,
            batch_size=batch_size,
            limits=limits,
        )

    def __enter__(self) -> Self:
        if not self._depth:
            self._entered.enter_context(preserved(self._module))
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._copies = Copies()
            self._entered.close()

    def only(self, methods: Sequence[Method], contributions: bool = False) -> "Explainer":
        """Return an explainer of some of the methods; nothing is checked or traced again.

        Args:
            methods: some of this explainer's.
            contributions: whether it keeps channels' contributions, if this one does.
        """
        options = replace(
            self.draft.options,
            methods=tuple(methods),
            output=self.plan.output,
            activation=self.plan.activation,
        )
        few = copy(self)
        summed = self.draft.contributing if contributions else {}
        few.draft = replace(self.draft, options=options, contributing=summed)
        few._plan = None
        few._entered, few._depth = ExitStack(), 0
        return few

    def resized(self, height: int, width: int) -> "Explainer":
        """Return an explainer of the same maps for images of another size.

        Raises:
            LayerError, MethodError, ModelError, MemoryLimitError: as for a new one; and whatever
                the model's own code raises about images of this size.
        """
        scale, plan = height * width / prod(self._shape[-2:]), self.plan
        return Explainer.of_options(
            self._module,
            self.draft.layers,
            replace(self.draft.options, output=plan.output, activation=plan.activation),
            input_shape=(self._shape[0], height, width),
            batch_size=self._asked_size and max(1, int(self._asked_size / scale)),
            limits=self._limits,
        )

    @contextmanager
    def scrambled(self, seed: int) -> Iterator[None]:
        """Permute every weight tensor within itself until the block ends; see ``scrambled``.

        In a block of the explainer's own the permuted copies are kept until that one ends.

        Args:
            seed: random seed of the permutations.

        Raises:
            FixedWeightsError: the network has no weights that can be permuted.
        """
        with self, scrambled(self._module, seed, self._copies):
            yield

    @property
    def plan(self) -> Plan:
        """What is computed and how; made from a noise image if no image has been explained yet."""
        return self._plan or self.probe(self._sample())

    @property
    def batch_size(self) -> int:
        """Number of images in the next batch, below every number that did not fit into memory."""
        return self._sizes.fitting(self._sizes.size)

    def probe(self, image: Tensor, targets: Targets = None) -> Plan:
        """Make the plan from one image and discard its maps.

        Only the passes that the methods have in common run; they raise any error that
        every image would cause.

        Args:
            image: ``(1, C, H, W)``, preprocessed.
            targets: as for ``explain``.

        Raises:
            LayerError, ClassError, ModelError, MemoryLimitError: as for ``explain``.
        """
        self._check(image)
        rows = as_indices(targets, len(image))
        with one_image_fits(), self:
            explained(self._begun(image, rows, _silent), PASSES[:1])
        assert self._plan is not None
        return self._plan

    def __call__(
        self, images: Tensor, targets: Targets = None, *, progress: Progress = _silent
    ) -> Explanation:
        """Explain one batch; a batch that does not fit into memory is halved.

        Arguments and exceptions are those of ``explain``.
        """
        return self.explain(images, targets, batch_size=max(1, len(images)), progress=progress)

    def explain(
        self,
        images: Tensor,
        targets: Targets = None,
        *,
        batch_size: int | None = None,
        progress: Progress = _silent,
    ) -> Explanation:
        """Explain any number of images, batch by batch.

        Args:
            images: ``(N, C, H, W)``, preprocessed; moved to the model's device.
            targets: K class indices for every image, ``(N, K)``, or a word such as ``all``;
                see ``targets.py``.
            batch_size: images per batch; ``self.batch_size`` if None. A batch that does not fit
                into memory is halved, and later batches of that size are halved at once.
            progress: called with the fraction of a batch's further forward passes that are done,
                if there are any.

        Raises:
            ModelError: images of another shape than planned, or no logits.
            LayerError, ClassError: as for ``explain``.
            MemoryLimitError: a single image does not fit into memory.
        """
        self._check(images)
        wanted = as_indices(targets, len(images))

        def size() -> int:
            return batch_size or self.batch_size

        parts: list[Explanation] = []
        with self:
            device = device_of(self._module, images)
            for rows, attempt in in_batches(len(images), size, self._sizes, device):
                own = of_rows(wanted, rows)
                with attempt:
                    parts.append(explained(self._begun(images[rows], own, progress), PASSES))
        return join(parts)

    def variant_logits(
        self, count: int, make: Make, *, progress: Finished = _silent
    ) -> tuple[Tensor, Cost]:
        """Run changed images, made chunk by chunk within the byte budget, without gradients.

        A chunk that does not fit into memory is halved.

        Args:
            count: number of changed images.
            make: makes those of a slice of ``range(count)``, ``(m, 3, H, W)``, preprocessed.
            progress: called with the number of further finished images.

        Returns:
            their logits ``(count, num_classes)`` on the model's device, and the passes.

        Raises:
            ModelError: no logits.
            MemoryLimitError: a single image does not fit into memory.
        """
        started, plan = time.perf_counter(), self.plan
        sizes = self._module, plan, self._limits
        with one_image_fits(), self, torch.inference_mode(False), self._precision(self.device):
            logits, cost = variant_logits(*sizes, count, make, progress)
        return logits, cost + Cost(seconds=time.perf_counter() - started)

    def is_fault_of_model(self, error: Exception) -> bool:
        """Return whether the model's own code raised an exception, or returned what is no use."""
        if is_out_of_memory(error) or isinstance(error, MemoryLimitError):
            return False
        return isinstance(error, ModelError | LayerError) or raised_by(self._module, error)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return device_of(self._module)

    @contextmanager
    def _begun(self, images: Tensor, targets: Tensor | str, progress: Progress) -> Iterator[Batch]:
        """Run the forward pass of a batch; inside of the block its other passes can run."""
        with gradients_on():
            inputs = to_model(self._module, images)
            with self._precision(inputs.device):
                forward = self._forward(inputs)
                if self._plan is None:
                    self._plan = make_plan(self._module, self.draft, forward, self._limits)
                    self._sizes.allow(self._asked_size or self._plan.batch_size)
                yield Batch(
                    module=self._module,
                    plan=self._plan,
                    forward=forward,
                    targets=choose_targets(forward.logits.detach(), targets),  # (N, K)
                    reference_logits=forward.logits.detach(),
                    counter=PassCounter(self._plan.variants_per_image * len(inputs), progress),
                    batching=self._batching,
                    limits=self._limits,
                )

    def _precision(self, device: torch.device) -> AbstractContextManager[None]:
        """Return the block in which the model's passes run."""
        return precision_of(self._module, device, self.draft.options.precision)

    def _forward(self, inputs: Tensor) -> ForwardPass:
        """Run the forward pass of a batch.

        Raises:
            BatchTooLarge: the first batch goes far beyond the byte budget, and the user has not
                chosen its size.
            LayerError: a layer has no grid; the message has the layer's name from the caller.
        """
        limit, draft = float("inf"), self.draft
        if self._asked_size is None and len(inputs) > 1:
            activations = self._limits.budget(inputs.device).activations
            limit = self._limits.first_allowance * activations
        capture = self._plan.capture if self._plan else draft.capture
        named = {**draft.contributing, **draft.channels, **draft.layers}
        return named_forward_pass(self._module, inputs, capture, named, limit)

    def _sample(self) -> Tensor:
        """Return the noise image on which the model is surveyed."""
        return sample_image((self._shape[-2], self._shape[-1]), self._shape[0])

    def _check(self, images: Tensor) -> None:
        """Refuse images of another shape than planned.

        Raises:
            ModelError: the images are not a batch of the planned shape.
        """
        check_images(images)
        if tuple(images.shape[1:]) != self._shape:
            raise ModelError(
                f"images: expected (N, {', '.join(map(str, self._shape))}) as planned, got "
                f"{tuple(images.shape)}. Make another Explainer for images of another size."
            )
