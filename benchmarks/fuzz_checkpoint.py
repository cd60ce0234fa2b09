"""Damaged checkpoints: thousands of mutated files, each of which must be refused as such, or be a whole file after all.

    python benchmarks/fuzz_checkpoint.py [--count 10000] [--seed 0] [--megabytes 512]

Bits are flipped, bytes cut out, put in, moved and taken from other files; and values in the header's JSON and in the
description inside it are replaced, removed, renamed and doubled, with the length of the header set right again, so
that what is behind the first checks is reached too. A file that is loaded must be one that safetensors reads to the
same arrays, whose model can be built, and that comes back the same when it is saved again. More memory than
--megabytes beyond that of the start is refused to the process, and anything but a CheckpointError ends it.
"""

import argparse
import collections
import copy
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

import minidl
from minidl import models, nn, optim
from minidl.checkpoint import CheckpointError, load_checkpoint, load_model, save_checkpoint, save_model
from minidl.random import default_generator, generator_state

EVIL = [
    None, True, False, -1, 0, 1, 7, 1.5, 1e308, 2**31, 2**53, 2**63, 2**64, 10**30, "", "x" * 999, "F64", "I8", "0",
    [], {}, [[]], [0], [1, -1], [2**40, 2**40], [0] * 40, {"$array": 0}, {"$tuple": []}, {"$int": "0x_"}, ["ReLU", {}],
    ["Sequential", {}, {}], float("nan"), float("-inf"), json.loads("[" * 90 + "]" * 90),
]  # fmt: skip


class Own(nn.Module):
    """One that has no description."""

    def __init__(self) -> None:
        self.dense = nn.Dense(3, 2)
        self.table = np.arange(6, dtype=np.int16).reshape(2, 3)


def originals(directory: Path) -> list[bytes]:
    """Whole files of every kind."""
    minidl.manual_seed(0)
    path, files = directory / "whole", []
    generators = [default_generator(), np.random.Generator(np.random.MT19937(1))]
    built = models.mlp((1, 3, 3), [4], 2), models.lstm((1, 4, 4), 3, 4), models.resnet((1, 4, 4), 2)
    for model in (*built, Own()):
        optimizer = optim.Adam(model.parameters())
        for p in model.parameters():
            p.grad = np.ones_like(p.data)
        optimizer.step()
        state = {"optimizer": optimizer.state_dict(), "random": [generator_state(g) for g in generators], 5: (1, 0.5)}
        save_checkpoint(path, model, state, {"seed": 1, "classes": [0, 1]})
        files.append(path.read_bytes())
    layers = nn.TransformerEncoderLayer(4, 2, 5), nn.Residual(nn.Dense(4, 4)), nn.GroupNorm(2, 4), nn.RNN(4, 2)
    for model in (nn.Sequential(*layers), nn.ReLU()):
        save_model(path, model, {"a": 1})
        files.append(path.read_bytes())
    return files


# -------------------------------------------------------------------------------------- mutations


def mutated(draw: random.Random, files: list[bytes]) -> tuple[str, bytes]:
    """(what was done, a damaged file)."""
    data = bytearray(draw.choice(files))
    kind = draw.choice(MUTATIONS)
    return kind.__name__, bytes(kind(draw, data, files))


def flip(draw: random.Random, data: bytearray, files: list[bytes]) -> bytearray:
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def flip_header(draw: random.Random, data: bytearray, files: list[bytes]) -> bytearray:
    end = 8 + int.from_bytes(data[:8], "little")
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        data[draw.randrange(end)] = draw.choice((draw.randrange(256), ord(draw.choice('{}[]",:0189-\\'))))
    return data


def flip_length(draw: random.Random, data: bytearray, files: list[bytes]) -> bytearray:
    data[draw.randrange(8)] = draw.randrange(256)
    return data


def truncate(draw: random.Random, data: bytearray, files: list[bytes]) -> bytearray:
    return data[: draw.randrange(len(data))]


def insert(draw: random.Random, data: bytearray, files: list[bytes]) -> bytearray:
    at = draw.choice((draw.randrange(len(data)), len(data)))
    data[at:at] = draw.randbytes(draw.choice((1, 2, 8, 100)))
    return data


def cut(draw: random.Random, data: bytearray, files: list[bytes]) -> bytearray:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice((1, 2, 8, 100))]
    return data


def move(draw: random.Random, data: bytearray, files: list[bytes]) -> bytearray:
    a, b, length = draw.randrange(len(data)), draw.randrange(len(data)), draw.randrange(1, 200)
    piece = data[a : a + length]
    data[b : b + len(piece)] = piece
    return data


def splice(draw: random.Random, data: bytearray, files: list[bytes]) -> bytearray:
    return data[: draw.randrange(len(data))] + draw.choice(files)[draw.randrange(len(data)) :]


def edit_header(draw: random.Random, data: bytearray, files: list[bytes]) -> bytes:
    header, rest = parts(data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        edit(draw, header)
    return whole(draw, header, rest)


def edit_description(draw: random.Random, data: bytearray, files: list[bytes]) -> bytes:
    header, rest = parts(data)
    about = json.loads(header["__metadata__"]["minidl"])
    for _ in range(draw.choice((1, 1, 2, 3))):
        edit(draw, about)
    header["__metadata__"]["minidl"] = text(draw, about)
    return whole(draw, header, rest)


def exchange(draw: random.Random, data: bytearray, files: list[bytes]) -> bytes:
    """The description of another file."""
    header, rest = parts(data)
    header["__metadata__"] = parts(draw.choice(files))[0]["__metadata__"]
    return whole(draw, header, rest)


MUTATIONS = [flip, flip_header, flip_length, truncate, insert, cut, move, splice, edit_header, edit_header]
MUTATIONS += [edit_description, edit_description, edit_description, exchange]


def parts(data: bytes | bytearray) -> tuple[dict, bytes]:
    """(header, what comes after it)."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), bytes(data[end:])


def whole(draw: random.Random, header: dict, rest: bytes) -> bytes:
    """A file of this header, often with as many bytes of data as it announces."""
    encoded = text(draw, header).encode("utf-8", "surrogatepass")
    if draw.random() < 0.5:
        ends = [e.get("data_offsets", [0, 0]) for e in header.values() if isinstance(e, dict)]
        ends = [e[1] for e in ends if isinstance(e, list) and len(e) == 2 and type(e[1]) is int]
        end = min(max(ends, default=0), 1 << 20)
        rest = (rest + bytes(max(0, end - len(rest))))[: max(0, end)]
    return len(encoded).to_bytes(8, "little") + encoded + rest


def text(draw: random.Random, value: object) -> str:
    """JSON, at times with a key that comes twice."""
    told = json.dumps(value, separators=(",", ":"))
    if draw.random() < 0.1 and (at := told.find('{"')) >= 0:
        end = told.find('":', at)
        told = f"{told[: at + 1]}{told[at + 1 : end + 2]}{json.dumps(draw.choice(EVIL))},{told[at + 1 :]}"
    return told


def edit(draw: random.Random, tree: dict | list) -> None:
    """Change one value, somewhere inside."""
    places = []
    stack = [tree]
    while stack:
        node = stack.pop()
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, dict | list):
                stack.append(value)
    if not places:
        return
    node, key = draw.choice(places)
    match draw.randrange(6):
        case 0 | 1:
            node[key] = copy.deepcopy(draw.choice(EVIL))
        case 2:
            del node[key]
        case 3 if isinstance(node, dict):
            node[draw.choice((f"{key}x", "", "0", "forward", "$array", "__metadata__"))] = node.pop(key)
        case 4:
            other, at = draw.choice(places)
            node[key] = copy.deepcopy(other[at])
        case _:
            if type(node[key]) is int:
                node[key] += draw.choice((-1, 1, 4, 1000))
            elif isinstance(node, list):
                node.insert(key, copy.deepcopy(draw.choice(EVIL)))
            else:
                node[f"{key}0"] = copy.deepcopy(node[key])


# ------------------------------------------------------------------------------------------ loading


def outcome(path: Path) -> str:
    """What came of a file: "refused" or "loaded". AssertionError: loaded, and not a whole file."""
    found = loaded(load_checkpoint, path)
    if found is None:
        return "refused" if loaded(load_model, path) is None else "its model loaded"  # which does not read the state
    arrays = load(path.read_bytes())
    for name, values in found.model_state.items():
        assert values.tobytes() == arrays[name].tobytes(), name
    if found.layers is None:
        return "loaded"
    model, config = load_model(path)
    assert repr(config) == repr(found.config)
    again = path.with_name("again")
    save_checkpoint(again, model, found.state, found.config)
    back = load_checkpoint(again)
    assert repr(back.state) == repr(found.state)
    assert list(back.model_state) == list(model.state_dict())
    for name, values in back.model_state.items():
        assert values.tobytes() == found.model_state[name].tobytes(), name
    return "loaded"


def loaded(load: Callable[[Path], Any], path: Path) -> Any:
    """What is in the file; None if it is refused."""
    try:
        return load(path)
    except CheckpointError as error:
        if str(path) not in str(error):
            raise AssertionError(f"no path in {error}") from error
        return None


def run(count: int, seed: int, directory: Path) -> tuple[dict[str, collections.Counter], float]:
    """(outcomes of each mutation, seconds that the slowest file took)."""
    files = originals(directory)
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    path, slowest = directory / "mutated", 0.0
    for i in range(count):
        kind, data = mutated(random.Random(f"{seed} {i}"), files)
        path.write_bytes(data)
        start = time.perf_counter()
        try:
            counts[kind][outcome(path)] += 1
        except Exception as error:
            error.add_note(f"file {i} of seed {seed}, {kind}: {path}")
            raise
        slowest = max(slowest, time.perf_counter() - start)
    return counts, slowest


def memory(name: str) -> int:
    """A number in KiB of the kernel's about this process: VmHWM, VmSize."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=int, default=512)
    arguments = parser.parse_args()
    linux = sys.platform == "linux"
    with tempfile.TemporaryDirectory() as directory:
        run(0, 0, Path(directory))  # all is imported
        outcome(Path(directory, "whole"))
        if linux:
            import resource

            before = memory("VmHWM")
            limit = memory("VmSize") * 1024 + (arguments.megabytes << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        start = time.perf_counter()
        counts, slowest = run(arguments.count, arguments.seed, Path(directory))
        seconds = time.perf_counter() - start
    counts["all"] = sum(counts.values(), collections.Counter())
    outcomes = sorted(counts["all"], key=counts["all"].get, reverse=True)
    print(f"{'mutation':18}" + "".join(f"{name:>20}" for name in outcomes))
    for kind in (*dict.fromkeys(m.__name__ for m in MUTATIONS), "all"):
        print(f"{kind:18}" + "".join(f"{counts[kind][name]:20,}" for name in outcomes))
    total = sum(counts["all"].values())
    print(f"{total:,} files in {seconds:.1f} s, the slowest in {1000 * slowest:.0f} ms; no other exception")
    if linux:
        peak = memory("VmHWM")
        print(f"peak memory {peak / 1024:.0f} MiB, {(peak - before) / 1024:.0f} MiB above the start")


if __name__ == "__main__":
    main()
