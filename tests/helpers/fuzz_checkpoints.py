"""Mutated weights files: only ``ModelError`` comes out of them, and nothing else happens.

    python tests/fuzz_checkpoints.py --seed 1 --files 20000

mutates real files of every kind (bits, chunks, and the operations of their pickles), opens each in
a worker process as ``load_model`` does, and watches for other exceptions, for attributes of torch
and torchvision that changed, for files written, programs started, sockets and foreign imports, for
memory above one gibibyte and for more than 20 seconds. A short run of it is part of the tests.
"""

import argparse
import hashlib
import io
import math
import multiprocessing
import multiprocessing.connection
import os
import pickletools
import random
import struct
import sys
import tempfile
import time
import types
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import SwinTransformer

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.models import checkpoint, load_model
from camreport.models.loaded import Architecture

MAX_SECONDS = 20
MAX_MEMORY = 2**30
CHECK_EVERY = 25
"""Files between two looks at torch's attributes, which take some milliseconds."""

DANGEROUS = (
    *("os system", "posix system", "builtins eval", "builtins exec", "builtins getattr"),
    *("subprocess Popen", "builtins __import__", "functools partial", "operator attrgetter"),
    *("torch._tensor _rebuild_from_type_v2", "torch.serialization _get_layout", "torch load"),
    *("torch.nn.modules.module Module.compile", "torch.nn.modules.module Module.__setattr__"),
    *("torch._utils _set_obj_state", "torch.jit load", "torch.hub load", "copyreg __newobj__"),
    *("torch.nn.modules.activation ReLU", "torch.nn.modules.container ParameterDict"),
    *("torch.nn.modules.upsampling Upsample", "torch.nn.modules.rnn LSTM"),
    *("torch.nn.modules.container Sequential", "torch.nn.modules.module Module"),
    *("torch._utils _rebuild_parameter", "collections OrderedDict", "builtins set"),
    *("torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_sparse_tensor"),
)
NAMES = (
    *("forward", "__class__", "__dict__", "_call_impl", "__call__", "compile", "training"),
    *("_forward_hooks", "_forward_pre_hooks", "_modules", "_parameters", "_buffers", "0", ""),
    *("_compiled_call_impl", "__setstate__", "__reduce__", "weight", "state_dict", "a.b", "\n"),
    *("padding_mode", "stride", "inplace", "num_layers", "_flat_weights", "module", "norm_layer"),
)
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**15, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, 2**63, -(2**70))


def seeds() -> dict[str, bytes]:
    """Return small files of every kind that is read."""
    torch.manual_seed(0)
    plain = plain_net()
    whole: dict[str, nn.Module] = {
        "plain": plain,
        "parallel": nn.DataParallel(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())),
        "vit": models.VisionTransformer(32, 16, 1, 2, 8, 8, num_classes=3),
        "convnext": models.ConvNeXt(
            [CNBlockConfig(8, 8, 1), CNBlockConfig(8, None, 1)], num_classes=3
        ),
        "swin": SwinTransformer([4, 4], 8, [1, 1], [2, 2], [7, 7], num_classes=3),
        "densenet": models.DenseNet(4, (1, 1), 8, num_classes=3),
        "mobilenet": models.MobileNetV2(3, 1.0, [[1, 8, 1, 1], [2, 8, 1, 1]]),
        "attention": nn.Sequential(
            *(nn.AvgPool2d(8), nn.Flatten(2), nn.TransformerEncoderLayer(16, 2, 4)),
            *(nn.Flatten(), nn.Linear(48, 3)),
        ),
        "recurrent": nn.Sequential(nn.AvgPool2d(8), nn.Flatten(2), nn.GRU(16, 2)),
    }
    files = {}
    for name, module in whole.items():
        module.eval()
        files[f"{name}.pth"] = _saved(module)
        files[f"{name}.old"] = _saved(module, _use_new_zipfile_serialization=False)
        files[f"{name}.state"] = _saved({"state_dict": module.state_dict(), "epoch": 3})
    for protocol in (1, 4, 5):
        files[f"plain.{protocol}"] = _saved(plain, pickle_protocol=protocol)
    files["plain.safetensors"] = safetensors.torch.save(plain.state_dict())
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(plain, torch.zeros(1, 3, 32, 32)), buffer)
    files["plain.script"] = buffer.getvalue()
    return files


def plain_net(_state: object = None) -> nn.Module:
    """Return a small network of many kinds of layers."""
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Upsample(scale_factor=2), nn.ZeroPad2d(1), nn.GroupNorm(2, 4), nn.Dropout(0.1)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
    )


PLAIN = Architecture("plain", Preprocessing(size=(32, 32)), plain_net, "plain's")


def _saved(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


# Mutations


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return a file with one to four changes of any kind."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        if data.startswith(b"PK") and chance.random() < 0.85:
            data = _in_archive(data, chance)
        elif data.startswith(b"\x80") and chance.random() < 0.7:
            data = _in_pickle(data, chance)
        else:
            data = chance.choice(BYTES)(data, others, chance)
    return data


def _flipped(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _number in range(chance.choice((1, 2, 8, 64))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _repeated(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    start, length = chance.randrange(len(data) + 1), chance.choice((1, 8, 100, 5000))
    place = chance.randrange(len(data) + 1)
    return data[:place] + data[start : start + length] * chance.choice((1, 2, 50)) + data[place:]


def _left_out(data: bytes, _: list[bytes], chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + data[start + chance.choice((1, 8, 100, 5000)) :]


def _spliced(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other)) :]


BYTES = (_flipped, _flipped, _cut, _repeated, _left_out, _spliced)


def _in_archive(data: bytes, chance: random.Random) -> bytes:
    """Change a member of an archive, or which members there are."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, OSError, EOFError):
        return _flipped(data, [], chance)
    pickled = [place for place, (name, _) in enumerate(members) if name.endswith("data.pkl")]
    if not members:
        return data
    place = chance.choice(pickled or range(len(members)))
    name, content = members[place]
    way = chance.random()
    if way < 0.8:
        members[place] = (name, _in_pickle(content, chance))
    elif way < 0.85:
        members.append(chance.choice(members))
    elif way < 0.9:
        del members[chance.randrange(len(members))]
    else:
        place = chance.randrange(len(members))
        name, content = members[place]
        members[place] = (name, chance.choice(BYTES)(content or b"0", [content or b"0"], chance))
    return _archive(members, chance.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,)))


def _archive(members: list[tuple[str, bytes]], kind: int) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", kind) as archive:
        warnings.simplefilter("ignore")  # on two members of one name
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _in_pickle(data: bytes, chance: random.Random) -> bytes:
    """Change the operations of the longest pickle in some bytes."""
    stream = io.BytesIO(data)
    best, start = (0, []), 0
    try:
        while start < len(data):
            codes = _operations(stream)
            best = max(best, (start, codes), key=lambda found: len(found[1]))
            start = stream.tell()
    except (ValueError, IndexError):
        pass
    start, codes = best
    if len(codes) < 3:
        return _flipped(data, [], chance)
    end = start + sum(map(len, codes))
    for _ in range(chance.choice((1, 1, 1, 3))):
        chance.choice(EDITS)(codes, chance)
    return data[:start] + b"".join(codes) + data[end:]


def _operations(stream: io.BytesIO) -> list[bytes]:
    start = stream.tell()
    places = [place for _, _, place in pickletools.genops(stream)]
    data = stream.getvalue()
    ends = [*places[1:], stream.tell()]
    assert places[0] == start
    return [data[a:b] for a, b in zip(places, ends, strict=True)]


def _pushed(value: object) -> bytes:
    """Return operations that push a value."""
    if isinstance(value, str):
        data = value.encode()
        return b"X" + len(data).to_bytes(4, "little") + data
    assert isinstance(value, int)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _named(chance: random.Random) -> bytes:
    return b"c" + chance.choice(DANGEROUS).replace(" ", "\n").encode() + b"\n"


def _values(chance: random.Random) -> bytes:
    """Return operations that push something odd."""
    return chance.choice(
        [
            *(b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f", b"G" + chance.randbytes(8)),
            *(_pushed(chance.choice(NUMBERS)), _pushed(chance.choice(NAMES))),
            *(_named(chance), _named(chance) + _pushed("true") + b"\x85R"),
            b"cos\nsystem\n" + _pushed("touch ran") + b"\x85R",
            b"}\x94" + _pushed("model") + b"h\x00s",
            b"}r\x00\x00\x00\x7f" + _pushed("model") + b"j\x00\x00\x00\x7fs",
            b")" + b"\x85" * chance.choice((3, 5000)),
            b"(" * chance.choice((3, 5000)),
            b"]" + b"2" * 3,
            b"]\x94(" + b"h\x00" * 50 + b"e",
            b"X\xff\xff\xff\x7fabc",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc",
            b"p9999999999\n",
        ]
    )


def _operation(codes: list[bytes], chance: random.Random, starts: bytes) -> int | None:
    places = [place for place, code in enumerate(codes) if code[:1] in {bytes([c]) for c in starts}]
    return chance.choice(places) if places else None


def _insert(codes: list[bytes], chance: random.Random) -> None:
    codes.insert(chance.randrange(1, len(codes)), _values(chance))


def _insert_neutral(codes: list[bytes], chance: random.Random) -> None:
    codes.insert(chance.randrange(1, len(codes)), _values(chance) + b"0")


def _drop(codes: list[bytes], chance: random.Random) -> None:
    del codes[chance.randrange(len(codes))]


def _double(codes: list[bytes], chance: random.Random) -> None:
    place = chance.randrange(len(codes))
    codes.insert(place, codes[place])


def _exchange(codes: list[bytes], chance: random.Random) -> None:
    one, two = chance.randrange(len(codes)), chance.randrange(len(codes))
    codes[one], codes[two] = codes[two], codes[one]


def _rename(codes: list[bytes], chance: random.Random) -> None:
    place = _operation(codes, chance, b"c")
    if place is not None:
        names = [code for code in codes if code[:1] == b"c"]
        codes[place] = chance.choice([_named(chance), chance.choice(names)])


def _other_number(codes: list[bytes], chance: random.Random) -> None:
    place = _operation(codes, chance, b"KMJ\x8aI")
    if place is not None:
        codes[place] = _pushed(chance.choice(NUMBERS))


def _near_number(codes: list[bytes], chance: random.Random) -> None:
    place = _operation(codes, chance, b"KM")
    if place is not None:
        number = int.from_bytes(codes[place][1:], "little")
        codes[place] = _pushed(chance.choice((number + 1, number - 1, 2 * number, -number, 0, 1)))


def _plain_value(codes: list[bytes], chance: random.Random) -> None:
    """Put another plain value into the place of one: what a model's attributes are made of."""
    place = _operation(codes, chance, b"KMGN\x88\x89X")
    if place is not None:
        number, other = chance.choice(NUMBERS), float(chance.choice(NUMBERS)) / 7
        values = [b"N", b"\x88", b"\x89", _pushed(number), _pushed(chance.choice(NAMES))]
        values += [b")", b"]", b"G" + struct.pack(">d", other), b"G" + struct.pack(">d", math.nan)]
        values += [_pushed(number) * 2 + b"\x86", _pushed(3) + b"\x85", _pushed("circular")]
        codes[place] = chance.choice(values)


def _other_text(codes: list[bytes], chance: random.Random) -> None:
    place = _operation(codes, chance, b"X\x8cU")
    if place is not None:
        codes[place] = _pushed(chance.choice(NAMES))


def _other_kind(codes: list[bytes], chance: random.Random) -> None:
    place = _operation(codes, chance, b"KMJGN\x88\x89X]})")
    if place is not None:
        codes[place] = _values(chance)


def _remembered(codes: list[bytes], chance: random.Random) -> None:
    place = _operation(codes, chance, b"h")
    if place is not None:
        codes[place] = b"h" + bytes([chance.randrange(256)])


EDITS: tuple[Callable[[list[bytes], random.Random], None], ...] = (
    *(_insert, _insert_neutral, _insert_neutral, _drop, _double, _exchange),
    *(_near_number,) * 4,
    *(_plain_value,) * 8,
    *(_rename, _other_number, _other_number, _other_text, _other_kind, _other_kind, _remembered),
)


# What is watched


def torch_attributes() -> dict[str, int]:
    """Return the identity of every attribute of torch's and torchvision's modules and classes."""
    found: dict[str, int] = {}
    homes = ("torch.nn", "torchvision", "torch._utils", "torch.serialization", "torch._tensor")
    plain = {"builtins", "functools", "collections", "os", "pickle", "copyreg"}
    for name, module in sorted(sys.modules.items()):
        if module is not None and (name.startswith(homes) or name in plain):
            found |= _attributes(name, vars(module))
    return found


def _attributes(name: str, values: dict[str, object]) -> dict[str, int]:
    found = {f"{name}.{key}": id(value) for key, value in values.items() if key != "_"}
    for key, value in list(values.items()):
        if isinstance(value, type):
            found |= {f"{name}.{key}.{k}": id(v) for k, v in list(vars(value).items())}
        elif isinstance(value, types.FunctionType):
            found |= {f"{name}.{key}.{k}": id(v) for k, v in list(vars(value).items())}
            found[f"{name}.{key}.__code__"] = id(value.__code__)
            found[f"{name}.{key}.__defaults__"] = id(value.__defaults__)
    return found


@dataclass
class Watch:
    """What Python's audit hook saw while a file was read."""

    seen: list[str]
    on: bool = False

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        """Note an event that reading a file must not lead to."""
        if not self.on:
            return
        forbidden = event.startswith(("subprocess", "socket", "os.", "shutil", "ctypes", "urllib"))
        if event == "open":
            _path, mode, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            forbidden = bool(writes) or (isinstance(mode, str) and set(mode) & set("wax+") != set())
        if event == "import":
            top = str(args[0]).partition(".")[0]
            forbidden = top not in sys.stdlib_module_names and top not in {"torch", "torchvision"}
        if event == "exec":
            file = getattr(args[0], "co_filename", "")
            forbidden = not str(file).startswith(("/", "<frozen"))
        if forbidden and event not in ("os.listdir", "os.scandir"):
            self.seen.append(f"{event} {args!r:.200}")


def opened(path: Path) -> str:
    """Open a file as the command does, and say what came of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_model(checkpoint=path, image_size=32)
    except ModelError as error:
        said = str(error)
        if "\n" in said or not said.isprintable():
            return f"FAILURE: a message of several lines {said!r:.300}"
        return "refused" if "refused" in said else "said to be damaged or unfit"
    except Exception as error:
        return f"FAILURE: {type(error).__name__}: {error!s:.300}"
    return "loaded"


def work(connection: multiprocessing.connection.Connection, folder: str) -> None:
    """Open the files whose paths come in, and send what came of each."""
    import resource  # only Unix has it

    checkpoint.guess_architecture = lambda states: ("plain", states[-1])  # of 22 it builds each
    checkpoint.torchvision_architecture = lambda name: PLAIN
    torch.set_num_threads(1)
    for number, data in enumerate(seeds().values()):
        path = Path(folder) / f"seed{number}"
        path.write_bytes(data)
        opened(path)
    watch = Watch([])
    sys.addaudithook(watch)
    before = torch_attributes()
    usage = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (usage + 4 * MAX_MEMORY,) * 2)
    connection.send("ready")
    for number in range(1_000_000):
        path = Path(connection.recv())
        Path("/proc/self/clear_refs").write_text("5")
        memory, started = _peak(), time.process_time()
        watch.on = True
        outcome = opened(path)
        watch.on = False
        seconds, grown = time.process_time() - started, _peak() - memory
        if watch.seen:
            outcome = f"FAILURE: {watch.seen[:3]}"
            watch.seen.clear()
        if number % CHECK_EVERY == 0:
            now = torch_attributes()
            changed = [key for key in before if now.get(key) != before[key]]
            if changed:
                outcome = f"FAILURE: changed {changed[:3]}"
        connection.send((outcome, seconds, grown))


def _peak() -> int:
    """Return the largest memory of this process since it was last reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@dataclass
class Worker:
    """A process that opens files; another takes its place when it dies."""

    folder: str

    def start(self) -> None:
        """Start the process and wait until it has read the files as they were."""
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        self.connection = ours
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=work, args=(theirs, self.folder), daemon=True)
        self.process.start()
        theirs.close()
        assert ours.recv() == "ready"

    def open(self, path: Path) -> tuple[str, float, int]:
        """Return what came of a file, seconds and bytes."""
        self.connection.send(str(path))
        try:
            if self.connection.poll(6 * MAX_SECONDS):
                result: tuple[str, float, int] = self.connection.recv()
                return result
            outcome = "FAILURE: never done"
        except EOFError:
            self.process.join()
            outcome = f"FAILURE: the process ended with {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self.start()
        return outcome, 0.0, 0


def fuzz(seed: int, files: int, folder: Path, keep: Path | None = None) -> Iterator[str]:
    """Yield what came of each mutated file; failures begin with FAILURE."""
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    chance = random.Random(seed)
    known = list(seeds().values())
    worker = Worker(str(folder))
    worker.start()
    try:
        for number in range(files):
            data = mutated(chance.choice(known), known, chance)
            path = folder / "mutated.pth"
            path.write_bytes(data)
            outcome, seconds, grown = worker.open(path)
            if seconds > MAX_SECONDS:
                outcome = f"FAILURE: {seconds:.0f} s"
            if grown > MAX_MEMORY:
                outcome = f"FAILURE: {grown >> 20} MiB"
            if outcome.startswith("FAILURE") and keep is not None:
                kept = keep / f"{seed}-{number}-{hashlib.sha256(data).hexdigest()[:8]}.pth"
                kept.write_bytes(data)
                outcome = f"{outcome} [{kept.name}]"
            yield outcome
            if (folder / "ran").exists() or Path("ran").exists():
                yield "FAILURE: a program was started"
                return
    finally:
        worker.process.kill()
        worker.process.join()


def main() -> None:
    """Fuzz, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        run = fuzz(options.seed, options.files, Path(folder), options.keep)
        for number, outcome in enumerate(run, 1):
            if outcome.startswith("FAILURE"):
                print(number, outcome, flush=True)
                outcome = "FAILURE"
            outcomes[outcome] += 1
            if number % 500 == 0:
                print(number, dict(outcomes), flush=True)
    print("seed", options.seed, "files", options.files, dict(outcomes))
    sys.exit(1 if outcomes["FAILURE"] else 0)


if __name__ == "__main__":
    main()
