"""The settings of `minidl train`, from the command line, a file, and the run to resume.

Settings in a TOML file or a checkpoint are prepended to the arguments as equivalent flags, so that one parser checks
them all and the later ones win.
"""

import argparse
import contextlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minidl import checkpoint
from minidl.shared.names import hint
from minidl.shared.terminal import Failure, reason

# How and where to run, not what: a resumed run may change these, and files of equal runs are equal.
CIRCUMSTANCES = (
    "threads", "out", "log_dir", "data_dir", "offline", "quiet", "json", "resume", "config", "print_config", "compile",
    "watch",
)  # fmt: skip


def expanded(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """argv of `minidl train`, with the flags of its --config and --resume prepended. ValueError: a bad file."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--config")
    own.add_argument("--resume", nargs="?", const="")
    own.add_argument("--out", type=Path)
    own.add_argument("--log-dir", type=Path)
    try:
        known, _ = own.parse_known_args([a for a in argv if a not in ("-h", "--help")])
    except argparse.ArgumentError:
        return list(argv)  # the parser itself will report the error
    flags: list[str] = []
    if known.config is not None:
        flags += _flags(_read(known.config), parser, known.config)
    if known.resume is not None:
        flags += _flags_of_run(known, parser)
    return [*flags, *argv]


def outputs(out: Path | None, log_dir: Path | None) -> tuple[Path, Path, Path]:
    """The paths of a run's (model, figures, checkpoint)."""
    out = out or (log_dir or Path()) / "model.safetensors"
    return out, out.with_suffix(".json"), out.with_name(f"{out.stem}.checkpoint.safetensors")


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The value of every flag."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items() if k not in ("run", "config")}


def as_toml(values: Mapping[str, Any]) -> str:
    """Values as a TOML file for --config; None, which TOML does not have, is left out."""
    left_out = ("print_config", "resume")
    lines = (f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None and k not in left_out)
    return "".join(f"{line}\n" for line in lines)


def differences(asked: Mapping[str, Any], was: Mapping[str, Any]) -> list[str]:
    """The settings that differ from those of the run to resume."""
    patience = ("early_stop",) if asked.get("early_stop") and was.get("early_stop") else ()  # more of it may continue
    names = [k for k in asked if k not in (*CIRCUMSTANCES, "epochs", *patience)]
    return [f"{k} {was.get(k)!r} there, {asked[k]!r} asked for" for k in names if was.get(k) != asked[k]]


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ValueError(f"--config: cannot read {path} ({reason(error)})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--config: expected TOML in {path}, found something else ({error})") from error


def _flags(values: Mapping[str, Any], parser: argparse.ArgumentParser, where: str) -> list[str]:
    known = [o for action in parser._actions for o in action.option_strings if o.startswith("--")]
    taken = [o for o in known if o not in ("--help", "--config", "--print-config", "--resume")]
    flags: list[str] = []
    for key, value in values.items():
        flag = f"--{key.replace('_', '-')}"
        if flag not in taken:
            near = hint(flag[2:], (name[2:] for name in taken))
            raise ValueError(f"--config: {where}: expected a flag of `minidl train`, found {key!r}{near}")
        if isinstance(value, bool):
            off = f"--no-{flag[2:]}"
            flags += [flag] if value else [off] if off in known else []
        elif isinstance(value, list):
            flags += [flag, *map(str, value)]
        elif isinstance(value, str | int | float):
            flags.append(f"{flag}={value}")
        else:
            raise ValueError(f"--config: {where}: expected a value or a list for {key!r}, found {value!r:.60}")
    return flags


def _flags_of_run(known: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    """The flags of the run to resume, and the paths of its files."""
    place, flags = Path(known.resume), list[str]()
    if not known.resume:
        path = outputs(known.out, known.log_dir)[2]
        if not path.exists():
            return []
    elif place.is_dir():
        path = outputs(None, place)[2]
        flags.append(f"--log-dir={place}")
    else:
        path = place
        model = path.with_name(path.name.replace(".checkpoint.safetensors", ".safetensors"))
        if model != path:
            flags.append(f"--out={model}")
        if (path.parent / "log.jsonl").exists():
            flags.append(f"--log-dir={path.parent}")
    try:
        config = checkpoint.load_checkpoint(path).config
    except checkpoint.CheckpointError as error:
        raise Failure(f"--resume: {error}") from error
    own = {f"--{k.replace('_', '-')}" for k in config} & {o for a in parser._actions for o in a.option_strings}
    told = {k: v for k, v in config.items() if f"--{k.replace('_', '-')}" in own and v is not None}
    told = {k: v for k, v in told.items() if k not in CIRCUMSTANCES and not isinstance(v, dict)}
    with contextlib.suppress(KeyError):
        told["standardize"] = bool(config["standardize"])
    return [*_flags(told, parser, str(path)), *flags]
