"""Data as arrays: reading, downloading, dividing and batching it."""

from minidl.data.dataset import Dataset, mean_std, train_test_split
from minidl.data.idx import IDXError, read_idx, write_idx
from minidl.data.loader import Loader
from minidl.data.sources import DataError, DataUnavailable, load

__all__ = [
    "DataError",
    "DataUnavailable",
    "Dataset",
    "IDXError",
    "Loader",
    "load",
    "mean_std",
    "read_idx",
    "train_test_split",
    "write_idx",
]
