"""The pins of CI's pass on the lowest versions are what pyproject.toml declares."""

import pytest
from lowest import lowest

PROJECT = {
    "dependencies": ["numpy>=2.0", "numba>=0.63"],
    "optional-dependencies": {
        "plot": ["pillow>=9.10"],
        "test": ["pytest>=8", "minidl[plot]", "pillow>=10"],
        "odd": ["onnx==1.17"],
    },
}


def test_pins_are_the_lowest_versions_that_all_allow():
    assert lowest(PROJECT, []) == {"numpy": "2.0", "numba": "0.63"}
    assert lowest(PROJECT, ["plot"])["pillow"] == "9.10"
    assert lowest(PROJECT, ["test"]) == {"numpy": "2.0", "numba": "0.63", "pytest": "8", "pillow": "10"}


def test_a_requirement_of_another_form_is_refused():
    with pytest.raises(ValueError, match=r"expected name>=version, found onnx==1\.17"):
        lowest(PROJECT, ["odd"])
