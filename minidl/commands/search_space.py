"""The space of `minidl search`: values of the flags of `minidl train`, by default or from a TOML file."""

import argparse
import json
import tomllib
from collections.abc import Mapping
from typing import Any

from minidl import search
from minidl.shared.names import hint
from minidl.shared.terminal import reason
from minidl.train.defaults import RATES

SPACE: dict[str, Any] = {
    "lr": {"log_uniform": [3e-4, 3e-2]},
    "hidden": [[256], [512], [1024], [256, 128], [512, 256]],
    "batch_size": [32, 64, 128, 256],
    "optimizer": ["sgd", "adam", "adamw"],
    "weight_decay": {"log_uniform": [1e-6, 1e-2]},
    "schedule": ["step", "cosine", "warm-up", "one-cycle"],
}
SEARCHED = (*SPACE, "model", "epochs", "clip_norm", "augment", "standardize")


def read(train: argparse.ArgumentParser, path: str) -> dict[str, Any]:
    """Read the space in a TOML file. ArgumentTypeError: invalid, or values that the flags of `train` do not take."""
    try:
        with open(path, "rb") as file:
            given = {name.replace("-", "_"): value for name, value in tomllib.load(file).items()}
        for name, distribution in search.as_space(given).items():
            if name not in SEARCHED:
                raise ValueError(f"expected settings of {list(SEARCHED)}, found {name!r}{hint(name, SEARCHED)}")
            action = next(action for action in train._actions if action.dest == name)
            for value in _examples(distribution):
                _check(name, action, value)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {path} ({reason(error)})") from error
    except (ValueError, TypeError) as error:  # includes TOML's own errors
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error
    return given


def as_toml(space: Mapping[str, Any]) -> str:
    """A space as TOML, in the form that `read` takes."""
    lines = []
    for name, value in space.items():
        if isinstance(value, Mapping):
            [(form, bounds)] = value.items()
            lines.append(f"{name} = {{{form} = {json.dumps(bounds)}}}\n")
        else:
            lines.append(f"{name} = {json.dumps(value)}\n")
    return "".join(lines)


def baseline(space: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of `minidl train` for the settings that vary."""
    every = search.as_space(space)
    found = {name: defaults[name] for name, distribution in every.items() if search.varies(distribution)}
    if "lr" in found:
        lone = _examples(every["optimizer"]) if "optimizer" in every and "optimizer" not in found else []
        found["lr"] = RATES[next(iter(lone), defaults["optimizer"])]
    return found


def _examples(distribution: search.Distribution) -> list[Any]:
    """Representative values: a choice's members, or the bounds."""
    match distribution:
        case search.Choice(members):
            return list(members)
        case search.Integers(low, high):
            return [low, high]
        case search.Uniform(low, high) | search.LogUniform(low, high):
            return [float(low), float(high)]
    return []


def _check(name: str, action: argparse.Action, value: Any) -> None:
    """Raise ValueError unless this is a valid value for a flag of `minidl train`."""
    several, switch = action.nargs in ("+", "*"), isinstance(action, argparse.BooleanOptionalAction)
    if isinstance(value, list) != several or isinstance(value, bool) != switch or (action.nargs == "+" and not value):
        kind = "a list" if several else "true or false" if switch else "one value"
        raise ValueError(f"{name}: expected {kind} for --{name.replace('_', '-')}, found {value!r:.60}")
    for one in [] if switch else value if several else [value]:
        try:
            found = action.type(str(one)) if callable(action.type) else one
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"{name}: {error}") from error
        if action.choices is not None and found not in action.choices:
            names = list(action.choices)
            raise ValueError(f"{name}: expected one of {names}, found {one!r:.60}{hint(str(one), names)}")
