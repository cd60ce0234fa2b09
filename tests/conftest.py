"""Every test begins at the same seed, so that a run repeats whichever worker takes which test."""

import pytest

import minidl


@pytest.fixture(autouse=True)
def seeded():
    minidl.manual_seed(0)
