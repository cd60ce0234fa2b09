"""Every run of the tests is the same run: the same seed for each test, and the same examples in Hypothesis' searches.

MINIDL_EXAMPLES=10 pytest      searches ten times as many examples, at random: other ones in each run
"""

import os

import hypothesis
import pytest

import minidl

TIMES = int(os.environ.get("MINIDL_EXAMPLES", "0"))

hypothesis.settings.register_profile(
    "minidl",
    derandomize=not TIMES,
    deadline=None,  # a busy machine is not a fault
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,  # with which a failure is seen again
)
hypothesis.settings.load_profile("minidl")


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
