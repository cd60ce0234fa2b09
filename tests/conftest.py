"""Every run of the tests is the same run: the same seed for each test, and the same examples in Hypothesis' searches.

MINIDL_EXAMPLES=10 pytest      searches ten times as many examples, at random: other ones in each run
"""

import atexit
import os
import shutil
import tempfile

import hypothesis
import pytest

import minidl
from minidl.jit.environment import private_directory

TIMES = int(os.environ.get("MINIDL_EXAMPLES", "0"))

hypothesis.settings.register_profile(
    "minidl",
    derandomize=not TIMES,
    deadline=None,  # a busy machine is not a fault
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,  # with which a failure is seen again
)
hypothesis.settings.load_profile("minidl")

try:
    private_directory("kernels")
except OSError:  # as where the home is read-only: one for this run, which worker processes inherit
    os.environ["MINIDL_CACHE"] = tempfile.mkdtemp(prefix="minidl-")
    atexit.register(shutil.rmtree, os.environ["MINIDL_CACHE"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not TIMES:
        return
    searches = {f for item in items if hypothesis.is_hypothesis_test(f := getattr(item, "obj", None))}
    for search in searches:
        own = search._hypothesis_internal_use_settings  # @settings' own place: there is no public one
        more = hypothesis.settings(own, max_examples=TIMES * own.max_examples, derandomize=False)
        search._hypothesis_internal_use_settings = more


@pytest.fixture(autouse=True)
def seeded():
    minidl.manual_seed(0)
