"""Data as arrays: reading, downloading, splitting, batching and augmenting."""

from typing import Any

from minidl.data.dataset import Dataset, mean_std, statistics, train_test_split
from minidl.data.idx import IDXError, read_idx, write_idx
from minidl.data.loader import Loader
from minidl.data.sources import DataError, DataUnavailable, load

__all__ = [
    "DataError",
    "DataUnavailable",
    "Dataset",
    "IDXError",
    "Loader",
    "augment",
    "load",
    "mean_std",
    "read_idx",
    "statistics",
    "train_test_split",
    "write_idx",
]


def __getattr__(name: str) -> Any:
    if name == "augment":  # imported on first use: few programs need it
        import importlib

        return importlib.import_module("minidl.data.augment")
    raise AttributeError(f"module 'minidl.data' has no attribute {name!r}")
