"""Train the bundled cat-and-dog AlexNet from scratch.

python training/train_catdog.py DATA --out RUN_DIR

DATA holds photographs as train/cat, train/dog, test/cat and test/dog. RUN_DIR receives
checkpoint.pt after every epoch (the same command goes on from it) and, at the end,
catdog_alexnet.safetensors: a plain torchvision AlexNet with a slim classifier, in float16.

Letters in shapes: N photographs, H W pixels. Colours are RGB, classes are 0 cat and 1 dog.
"""

import hashlib
import math
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TypedDict, cast

import click
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from safetensors.torch import load_file, save
from torch import Generator, Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.optim import AdamW, Optimizer
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.models import AlexNet, alexnet
from tqdm import tqdm

CLASSES = ("cat", "dog")
CACHE_SIZE = 200  # px, side of the decoded photographs in memory
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.05
MAX_GRADIENT_NORM = 2.0


class TrainingError(click.ClickException):
    """A folder, file or setting that the user can change; shown without a traceback."""

    exit_code = 2


@dataclass(frozen=True)
class Phase:
    """Epochs at one image size (px), with one optimizer and one course of the learning rate."""

    size: int
    epochs: int
    peak_rate: float
    final_rate: float
    warmup_steps: int = 0


PHASES = (
    Phase(size=112, epochs=20, peak_rate=1e-3, final_rate=2e-5, warmup_steps=500),
    Phase(size=224, epochs=3, peak_rate=2e-4, final_rate=1e-6),
)


@dataclass(frozen=True)
class Recipe:
    """What happens to the photographs."""

    phases: tuple[Phase, ...] = PHASES
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Photographs:
    """Decoded photographs: pixels (N, 3, 200, 200) uint8, 0..255, and labels (N,) int64."""

    pixels: Tensor
    labels: Tensor


class Checkpoint(TypedDict):
    """All that a run needs to go on; phase and epoch give the position in the schedule too."""

    settings: dict[str, str]
    phase: int  # 0-based
    epoch: int  # 1-based, the last one that is done
    model: dict[str, Tensor]
    optimizer: dict[str, object]
    random_state: Tensor


def list_files(data: Path, split: str) -> list[tuple[Path, int]]:
    """List the image files of the split "train" or "test" with their labels.

    Returns:
        (file, label): cats first, each class by name; hidden and other files are left out.

    Raises:
        TrainingError: the folder of a class is missing or holds no image file.
    """
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(CLASSES):
        folder = data / split / name
        if not folder.is_dir():
            raise TrainingError(
                f"data: expected photographs in '{folder}', got no such folder. "
                f"Arrange '{data}' as train/cat, train/dog, test/cat, test/dog."
            )
        visible = (path for path in folder.iterdir() if not path.name.startswith("."))
        images = sorted(path for path in visible if path.suffix.lower() in IMG_EXTENSIONS)
        if not images:
            raise TrainingError(
                f"data: expected photographs in '{folder}', got no image file. "
                f"Put {name} photographs there ({' '.join(IMG_EXTENSIONS)})."
            )
        files += [(path, label) for path in images]
    return files


def decode(path: Path) -> Tensor:
    """Decode one file to (3, 200, 200) uint8, 0..255: upright, aspect ratio not kept."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    small = upright.resize((CACHE_SIZE, CACHE_SIZE), Image.Resampling.BILINEAR)
    pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return pixels.view(CACHE_SIZE, CACHE_SIZE, 3).permute(2, 0, 1)


def load_photographs(files: list[tuple[Path, int]]) -> Photographs:
    """Decode all files into memory, 120 kB each; report and skip the unreadable ones.

    Raises:
        TrainingError: no file of a class is readable.
    """
    pixels = torch.empty(len(files), 3, CACHE_SIZE, CACHE_SIZE, dtype=torch.uint8)
    labels: list[int] = []
    for path, label in tqdm(files, desc="decoding", leave=False):
        try:
            pixels[len(labels)] = decode(path)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            tqdm.write(f"skipped '{path}': {error}")
        else:
            labels.append(label)
    print(f"{len(labels)} photographs decoded, {len(files) - len(labels)} skipped")
    if len(set(labels)) < len(CLASSES):
        folders = " and ".join(sorted({f"'{path.parent}'" for path, _ in files}))
        raise TrainingError(
            f"data: expected readable photographs of every class in {folders}, "
            f"got {labels.count(0)} cats and {labels.count(1)} dogs. Replace the skipped files."
        )
    return Photographs(pixels[: len(labels)], torch.tensor(labels))


def sample_affine(count: int, generator: Generator) -> Tensor:
    """Draw one affine map from output to source positions, both -1..1, for each image.

    The source is a window of area 0.45-1 of the frame and aspect ratio exp(±0.2), anywhere
    in the frame, turned by up to ±0.2 rad, and mirrored in half of the cases.

    Returns:
        (count, 2, 3): source position = [:, :, :2] @ output position + [:, :, 2].
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator)

    area, angle = uniform(0.45, 1, count), uniform(-0.2, 0.2, count)
    aspect = uniform(-0.2, 0.2, count).exp()
    mirror = torch.randint(2, (count,), generator=generator) * 2 - 1
    extent = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], dim=1)  # x, y
    shift = uniform(-1, 1, count, 2) * (1 - extent).clamp(min=0)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1)
    extent[:, 0] *= mirror
    return torch.cat([rotation.view(count, 2, 2) * extent[:, None], shift[:, :, None]], dim=2)


def augment(pixels: Tensor, size: int, generator: Generator) -> Tensor:
    """Show photographs from elsewhere and in another light: one affine sampling, then colour.

    The sampling (`sample_affine`) is bilinear and reflects at the border. Contrast is scaled by
    0.7-1.3 around 0.45, each channel shifted by up to ±0.08, one image in ten made grey.

    Args:
        pixels: (N, 3, H, W) uint8, 0..255, not modified.
        size: side of the result in px.
        generator: source of all random numbers.

    Returns:
        (N, 3, size, size) float32; 0..1 is stretched to at most -0.22..1.25, not clipped.
    """
    count = len(pixels)
    grid = F.affine_grid(
        sample_affine(count, generator), [count, 3, size, size], align_corners=False
    )
    images = F.grid_sample(
        pixels.float() / 255, grid, padding_mode="reflection", align_corners=False
    )
    contrast = torch.empty(count, 1, 1, 1).uniform_(0.7, 1.3, generator=generator)
    shift = torch.empty(count, 3, 1, 1).uniform_(-0.08, 0.08, generator=generator)
    grey = torch.rand(count, 1, 1, 1, generator=generator) < 0.1
    images = (images - 0.45) * contrast + 0.45 + shift
    return torch.where(grey, images.mean(dim=1, keepdim=True), images)


def resize(pixels: Tensor, size: int) -> Tensor:
    """Resize (N, 3, H, W) uint8 to (N, 3, size, size) float32, 0..1: bilinear, antialiased."""
    return F.interpolate(pixels.float() / 255, size=(size, size), mode="bilinear", antialias=True)


def normalise(images: Tensor) -> Tensor:
    """Turn images (N, 3, H, W), 0..1, into channels-last inputs of the network."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def build_plain_model() -> AlexNet:
    """Build torchvision's AlexNet with the slim classifier 9216, 256, 256, 2."""
    model = alexnet()
    model.classifier = nn.Sequential(
        nn.Dropout(0.5),
        nn.Linear(256 * 6 * 6, 256),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(256, 256),
        nn.ReLU(inplace=True),
        nn.Linear(256, len(CLASSES)),
    )
    return model


def add_batch_norm(layer: nn.Conv2d | nn.Linear) -> nn.Sequential:
    """Pair a layer with the batch norm of its output."""
    if isinstance(layer, nn.Conv2d):
        return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))
    return nn.Sequential(layer, nn.BatchNorm1d(layer.out_features))


def build_training_model(generator: Generator) -> AlexNet:
    """Build the network as it is trained, with Kaiming-normal weights and zero biases.

    A batch norm stands before every ReLU: `features.0`, for one, holds the convolution
    `features.0.0` and its norm `features.0.1`. The memory format is channels-last.
    """
    model = build_plain_model()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    for layers in (model.features, model.classifier):
        for index, following in enumerate(layers[1:]):
            if isinstance(following, nn.ReLU):
                layers[index] = add_batch_norm(layers[index])
    return model.to(memory_format=torch.channels_last)


def fold_batch_norm(model: AlexNet) -> AlexNet:
    """Return the trained network as a plain AlexNet in evaluation mode, with the same logits.

    weight * gamma / sqrt(var + 1e-5) and beta + (bias - mean) * gamma / sqrt(var + 1e-5) replace
    the weight and bias before each batch norm.

    Args:
        model: built by `build_training_model`; not modified.
    """
    plain = deepcopy(model).eval()
    for layers in (plain.features, plain.classifier):
        for index, layer in enumerate(layers):
            if isinstance(layer, nn.Sequential):
                fuse = fuse_conv_bn_eval if isinstance(layer[0], nn.Conv2d) else fuse_linear_bn_eval
                layers[index] = fuse(*layer)
    return plain


@torch.no_grad()
def centre_logits(model: AlexNet) -> AlexNet:
    """Return the network with logits that sum to 0; the probabilities do not change.

    Args:
        model: plain, as `fold_batch_norm` returns it; not modified.
    """
    centred = deepcopy(model)
    last = centred.classifier[6]
    last.weight -= last.weight.mean(dim=0)
    last.bias -= last.bias.mean()
    return centred


def learning_rate_at(step: int, total_steps: int, phase: Phase) -> float:
    """Give the learning rate of a step: linear warm-up to the peak, then half a cosine.

    Args:
        step: 0 .. total_steps - 1; the last one has the final rate of the phase.
        total_steps: steps of the whole phase.
        phase: rates and length of the warm-up; a shorter phase ends while still warming up.
    """
    if step < phase.warmup_steps:
        return phase.peak_rate * (step + 1) / phase.warmup_steps
    share = (step - phase.warmup_steps) / max(1, total_steps - 1 - phase.warmup_steps)
    height = (1 + math.cos(math.pi * share)) / 2
    return phase.final_rate + (phase.peak_rate - phase.final_rate) * height


def train_epoch(
    model: AlexNet,
    optimizer: Optimizer,
    photographs: Photographs,
    recipe: Recipe,
    phase: Phase,
    epoch: int,
    generator: Generator,
) -> float:
    """Take one step per full batch of the shuffled photographs; the last few may sit out.

    Args:
        model: its weights and running statistics change.
        optimizer: of the weights; its learning rate is set before each step.
        photographs: at least one batch.
        recipe: gives the batch size.
        phase: gives image size and learning rates.
        epoch: 1 .. phase.epochs.
        generator: source of order and augmentation.

    Returns:
        mean loss over the steps.
    """
    model.train()
    steps = len(photographs.labels) // recipe.batch_size
    order = torch.randperm(len(photographs.labels), generator=generator)
    batches = order[: steps * recipe.batch_size].view(steps, recipe.batch_size)
    total = 0.0
    progress = tqdm(batches, desc="training", leave=False)
    for step, batch in enumerate(progress, start=(epoch - 1) * steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, phase.epochs * steps, phase)
        images = augment(photographs.pixels[batch], phase.size, generator)
        logits = model(normalise(images))
        loss = F.cross_entropy(logits, photographs.labels[batch], label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        total += loss.item()
    return total / steps


@torch.inference_mode()
def evaluate(model: AlexNet, photographs: Photographs, size: int) -> Tensor:
    """Count the predictions for whole photographs at `size` px; leaves the model in eval mode.

    Returns:
        (2, 2) int64: row = true class, column = predicted class.
    """
    model.eval()
    predicted = [
        model(normalise(resize(pixels, size))).argmax(dim=1)
        for pixels in torch.split(photographs.pixels, 64)
    ]
    pairs = photographs.labels * len(CLASSES) + torch.cat(predicted)
    return pairs.bincount(minlength=len(CLASSES) ** 2).view(len(CLASSES), len(CLASSES))


def accuracy(counts: Tensor) -> float:
    """Return the share of right predictions among the counts (2, 2), in %."""
    return 100 * counts.trace().item() / counts.sum().item()


def train(
    recipe: Recipe,
    training: Photographs,
    test: Photographs,
    settings: dict[str, str],
    checkpoint: Path,
) -> AlexNet:
    """Run the recipe from its start, or on from the checkpoint, which each epoch renews.

    Args:
        recipe: phases, batch size and seed.
        training: photographs to learn from.
        test: photographs whose accuracy is printed after each epoch.
        settings: from `describe_settings`.
        checkpoint: file to go on from, if there is one, and to write.

    Returns:
        the trained network, still with batch norm.

    Raises:
        TrainingError: less than one batch of photographs, or a checkpoint of other settings.
    """
    if len(training.labels) < recipe.batch_size:
        raise TrainingError(
            f"batch_size: expected at most {len(training.labels)}, all training photographs, "
            f"got {recipe.batch_size}. Choose a smaller --batch-size."
        )
    saved = read_checkpoint(checkpoint, settings)
    generator = torch.manual_seed(recipe.seed)  # the default one, as dropout draws from it
    model = build_training_model(generator)
    if saved:
        model.load_state_dict(saved["model"])
        generator.set_state(saved["random_state"])
    for number, phase in enumerate(recipe.phases):
        if saved and number < saved["phase"]:
            continue
        optimizer = AdamW(model.parameters(), lr=phase.peak_rate, weight_decay=WEIGHT_DECAY)
        done = 0
        if saved and number == saved["phase"]:
            optimizer.load_state_dict(saved["optimizer"])
            done = saved["epoch"]
            print(f"{phase.size} px, going on after epoch {done} of {phase.epochs}")
        for epoch in range(done + 1, phase.epochs + 1):
            start = perf_counter()
            loss = train_epoch(model, optimizer, training, recipe, phase, epoch, generator)
            counts = evaluate(model, test, phase.size)
            state = Checkpoint(
                settings=settings,
                phase=number,
                epoch=epoch,
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
                random_state=generator.get_state(),
            )
            write_checkpoint(checkpoint, state)
            print(
                f"{phase.size} px, epoch {epoch} of {phase.epochs}: loss {loss:.3f}, "
                f"test accuracy {accuracy(counts):.1f} %, {perf_counter() - start:.0f} s"
            )
    return model


def describe_settings(data: Path, recipe: Recipe) -> dict[str, str]:
    """Describe what decides the result of a run; files count by name and size, undecoded."""
    files = list_files(data, "train") + list_files(data, "test")
    listing = [f"{path.relative_to(data).as_posix()} {path.stat().st_size}" for path, _ in files]
    digest = hashlib.sha256("\n".join(listing).encode()).hexdigest()
    return {
        "data": f"'{data.resolve()}'",
        "files": f"{len(files)} image files (sha256 of names and sizes {digest[:12]})",
        "seed": str(recipe.seed),
        "batch_size": str(recipe.batch_size),
        "epochs": ", ".join(f"{phase.epochs} at {phase.size} px" for phase in recipe.phases),
        "phases": str(recipe.phases),
    }


def read_checkpoint(path: Path, settings: dict[str, str]) -> Checkpoint | None:
    """Read the checkpoint of a run, or return None where there is none yet.

    Raises:
        TrainingError: the run has other settings.
    """
    if not path.exists():
        return None
    saved = cast(Checkpoint, torch.load(path, weights_only=True))
    for name, value in settings.items():
        if saved["settings"][name] != value:
            raise TrainingError(
                f"{name}: expected {saved['settings'][name]} as in '{path}', got {value}. "
                "Repeat the command of that run, or choose another --out."
            )
    return saved


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint; at any moment the file is the old or the new one, complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(checkpoint, temporary)
    temporary.replace(path)


def export(model: AlexNet, path: Path) -> None:
    """Write the plain network as float16 safetensors, complete or not at all."""
    temporary = path.with_suffix(".tmp")
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    temporary.write_bytes(save(tensors))
    temporary.replace(path)


@click.command(context_settings={"show_default": True})
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=0, help="Decides weights, order, augmentation, dropout.")
@click.option("--batch-size", default=64, type=click.IntRange(min=2))
@click.option("--epochs", default=(20, 3), type=click.IntRange(min=1), nargs=2, help="Per phase.")
def main(data: Path, out: Path, seed: int, batch_size: int, epochs: tuple[int, int]) -> None:
    """Train a cat-and-dog AlexNet on the folder DATA, or go on where that stopped.

    DATA holds photographs as train/cat, train/dog, test/cat and test/dog. The folder of --out
    receives checkpoint.pt and catdog_alexnet.safetensors.
    """
    phases = (replace(PHASES[0], epochs=epochs[0]), replace(PHASES[1], epochs=epochs[1]))
    recipe = Recipe(phases, batch_size, seed)
    settings = describe_settings(data, recipe)
    checkpoint, exported = out / "checkpoint.pt", out / "catdog_alexnet.safetensors"
    read_checkpoint(checkpoint, settings)  # refuses other settings before minutes of decoding
    training, test = (load_photographs(list_files(data, split)) for split in ("train", "test"))
    model = train(recipe, training, test, settings, checkpoint)
    export(centre_logits(fold_batch_norm(model)), exported)

    plain = build_plain_model()
    plain.load_state_dict(load_file(exported))
    counts = evaluate(plain, test, phases[-1].size)
    print(
        f"{exported}: test accuracy {accuracy(counts):.1f} % "
        f"({counts[0, 1]} cats called dog, {counts[1, 0]} dogs called cat)"
    )


if __name__ == "__main__":
    main()
