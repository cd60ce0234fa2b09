"""The house's floors (DESIGN, section 2), read from the imports: none runs upward, none sideways."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minidl
from minidl.jit import KERNELS
from minidl.tensor import OPS

ROOT = Path(minidl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = [
    ["core"],
    ["tensor", "jit", "shared", "random"],
    ["ops", "data", "metrics", "graph"],
    ["nn", "optim", "gradcheck", "models", "checkpoint"],
    ["compiler", "machine", "instrument"],
    ["warmup"],
    ["train"],
    [
        "explanation",
        "overview",
        "watch",
        "search",
        "report",
        "sklearn",
        "bench",
    ],  # studies: each on the public API alone
    ["commands"],
    ["cli"],
    ["__init__"],
    ["__main__"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
SIDEWAYS = {  # the only neighbours that may know each other
    ("models", "nn"),
    ("checkpoint", "nn"),
    ("checkpoint", "models"),
}
NUMBA = {"numba", "llvmlite"}
LATE = {
    "ops/tile.py",
    "ops/vectors.py",
    "jit/cache.py",
    "jit/linking.py",
    "bench/chain.py",
    "compiler/intrinsics.py",
}  # imported by the first kernel that is compiled
WRITERS = {"compiler/native.py", "compiler/text.py"}  # they run text that they have written
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def part(path: Path) -> str:
    """The name under which the floors know a file: its own, or its package's."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, module_level: bool = False) -> Iterator[str]:
    """Dotted names of what a file imports, anywhere or when it is imported itself."""
    stack: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while stack:
        node = stack.pop()
        if module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if module_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        stack.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: a relative import"
            assert node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def known(name: str) -> str | None:
    """The part of minidl that a dotted name is in."""
    parts = name.split(".")
    if parts[0] != "minidl" or name == "minidl.__version__":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else "__init__"


@every_file
def test_no_import_runs_upward_or_sideways(path):
    here = part(path)
    assert here in FLOOR, f"{here}: a new part of the house; give it its floor here"
    for name in imports(path):
        there = known(name)
        if there is not None and there != here:
            below = FLOOR[there] < FLOOR[here]
            assert below or (here, there) in SIDEWAYS, f"{here} (floor {FLOOR[here]}) imports {name}"


def test_the_ground_floor_stands_on_numpy_alone():
    """The engine, the kernels and what is shared know nothing of one another, and no package but NumPy (and Numba)."""
    for path in FILES:
        if part(path) not in (*FLOORS[0], *FLOORS[1]):
            continue
        found = {i.split(".")[0] for i in imports(path)} - {"minidl"}
        numba = NUMBA if part(path) == "jit" else set()
        optional = {"terminal.py": {"tqdm"}, "plot.py": {"matplotlib"}}.get(path.name, set())
        assert found <= {"numpy", *sys.stdlib_module_names} | numba | optional, (path, found)


@every_file
def test_numba_is_imported_where_it_is_used(path):
    at_import = {i.split(".")[0] for i in imports(path, module_level=True)}
    if path.relative_to(ROOT).as_posix() not in LATE:
        assert not at_import & NUMBA
        for name in imports(path, module_level=True):
            assert not name.startswith(
                (
                    "minidl.ops.tile",
                    "minidl.ops.vectors",
                    "minidl.jit.cache",
                    "minidl.jit.linking",
                    "minidl.compiler.intrinsics",
                )
            )
    optional = {"safetensors", "tqdm", "PIL", "matplotlib", "sklearn", "torch", "optuna", "tensorboardX"}
    optional |= {"urllib", "http"}
    optional -= {"sklearn"} if part(path) == "sklearn" else set()  # its classes are scikit-learn's, by inheritance
    assert not at_import & optional, f"{at_import & optional}: imported only where it is used"


@every_file
def test_nothing_runs_text_or_loads_code(path):
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            banned = {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "os.system", "np.load"}
            if called == "np.load":
                assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
                continue
            if path.relative_to(ROOT).as_posix() in WRITERS and called in ("exec", "compile"):
                continue
            assert called not in banned, f"{path.name}:{node.lineno}: {called}()"
            for keyword in node.keywords:
                value = ast.unparse(keyword.value)
                assert (keyword.arg, value) not in {("fastmath", "True"), ("allow_pickle", "True"), ("shell", "True")}
                if keyword.arg == "fastmath" and isinstance(keyword.value, ast.Set):
                    assert {ast.literal_eval(e) for e in keyword.value.elts} <= {"contract", "reassoc", "nsz"}
    found = {i.split(".")[0] for i in imports(path)}
    if path.relative_to(ROOT).as_posix() == "bench/rival.py":
        found -= {"torch"}  # to be timed, in a process of its own
    assert not found & {
        "pickle",
        "cPickle",
        "dill",
        "shelve",
        "marshal",
        "tarfile",
        "zipfile",
        "joblib",
        "torch",
        "scipy",
    }


@every_file
def test_a_file_is_one_sitting(path):
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= (250 if part(path) == "tensor" else 400)
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), "a file begins with what it is about"


def says_what_it_computes(doc, made):
    """A formula, or the kernel that this is a part of, or what is made of its arguments: not just any words."""
    part_of = any(name in KERNELS or name in OPS for name in re.findall(r"`(\w+)`", doc))
    about = set(re.findall(r"\w+", doc)) & set(inspect.signature(made).parameters)
    return bool(re.search("[=Σ≤]", doc)) or part_of or (bool(about) and len(doc.split()) > 4)


def test_words_alone_do_not_say_what_a_kernel_computes():
    made = KERNELS["relu_forward"]
    assert says_what_it_computes("y = max(x, 0)", made)
    assert says_what_it_computes("`relu_forward` of a block.", made)
    for doc in ("", "A kernel.", "Does quickly and well what its name says that it does.", "Takes x and y."):
        assert not says_what_it_computes(doc, made)


def test_every_kernel_and_op_says_what_it_computes():
    import importlib

    for path in FILES:
        if part(path) in ("ops", "optim") and path.name != "tile.py":
            dotted = path.relative_to(ROOT.parent).with_suffix("").as_posix().replace("/", ".")
            importlib.import_module(dotted.removesuffix(".__init__"))
    own = [f for f in (*KERNELS.values(), *OPS.values()) if f.__module__.startswith("minidl.")]
    assert len(own) > 50
    for made in own:
        assert says_what_it_computes(made.__doc__ or "", made), f"{made.__name__}: {made.__doc__!r}"
    for name, op in OPS.items():
        if op.__module__.startswith("minidl."):
            assert "dL/d" in op.__doc__, f"{name}: the derivative stands beside the formula"


def test_public_names_exist_and_have_docstrings():
    for module in (minidl, minidl.ops, minidl.nn):
        for name in module.__all__:
            value = getattr(module, name)
            assert value.__doc__, f"{module.__name__}.{name}"


CIRCLES = {  # the only one: tracing is one subject in several files, each of which needs arrays that are traced
    "compiler"
}


def test_no_circle_inside_a_package_either():
    """Neither at import, nor in a function, nor for types alone."""
    modules = {path.relative_to(ROOT.parent).with_suffix("").as_posix().replace("/", "."): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    known_by: dict[str, set[str]] = {}
    for name, path in modules.items():
        dotted = set(imports(path))
        known_by[name] = {d if d in modules else d.rpartition(".")[0] for d in dotted} & modules.keys() - {name}
    left = {name: {m for m in there if part(modules[m]) not in CIRCLES} for name, there in known_by.items()}
    left["minidl.ops.tile"] -= {"minidl.ops.linalg"}  # WIDTH alone; linalg links to tile when compiled
    while done := [name for name, there in left.items() if not there & left.keys()]:
        for name in done:
            del left[name]
    assert not left, {name: sorted(there & left.keys()) for name, there in left.items()}
