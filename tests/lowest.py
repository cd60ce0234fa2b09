"""The lowest versions that pyproject.toml allows, as pins for pip: `python tests/lowest.py plot test`.

Arguments are the extras that are wanted besides what minidl always needs. A package named twice gets the higher one.
"""

import re
import sys
import tomllib
from pathlib import Path


def lowest(project: dict, extras: list[str]) -> dict[str, str]:
    """Package name → version, of the requirements `name>=version`. ValueError for any other form."""
    pins: dict[str, str] = {}
    wanted = [*project["dependencies"], *(r for extra in extras for r in project["optional-dependencies"][extra])]
    for requirement in wanted:
        if itself := re.fullmatch(r"minidl\[(\w+)\]", requirement):
            wanted += project["optional-dependencies"][itself[1]]
            continue
        found = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement)
        if found is None:
            raise ValueError(f"expected name>=version, found {requirement}")
        pins[found[1]] = max(pins.get(found[1], "0"), found[2], key=lambda v: [int(part) for part in v.split(".")])
    return pins


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    print(*(f"{name}=={version}" for name, version in lowest(tomllib.loads(text)["project"], sys.argv[1:]).items()))
