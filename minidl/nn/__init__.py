"""Layers: Python objects whose parameters are found among their attributes.

    class Net(nn.Module):
        def __init__(self):
            self.hidden = nn.Dense(784, 512)
            self.output = nn.Dense(512, 10)

        def forward(self, x):
            return self.output(ops.relu(self.hidden(x)))

Leaf Tensors among the attributes are parameters and arrays are buffers (state that no optimizer updates), also
inside modules, lists, tuples and dicts, in order of assignment. `super().__init__()` is not needed, and no
registry can get out of step.
"""

from minidl.nn import init
from minidl.nn.activation import ELU, GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from minidl.nn.attention import MultiheadAttention
from minidl.nn.container import ModuleDict, ModuleList, Residual, Sequential
from minidl.nn.conv import Conv1d, Conv2d, ConvTranspose2d
from minidl.nn.dense import Dense, Flatten
from minidl.nn.dropout import Dropout, Dropout2d
from minidl.nn.embedding import Embedding
from minidl.nn.module import Module
from minidl.nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from minidl.nn.pool import AdaptiveAvgPool1d, AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from minidl.nn.recurrent import GRU, LSTM, RNN
from minidl.nn.transformer import TransformerEncoderLayer

__all__ = [
    "ELU", "GELU", "GRU", "LSTM", "RNN", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d",
    "BatchNorm1d", "BatchNorm2d", "Conv1d", "Conv2d", "ConvTranspose2d", "Dense", "Dropout", "Dropout2d", "Embedding",
    "Flatten", "GroupNorm", "LayerNorm", "LeakyReLU", "LogSoftmax", "MaxPool1d", "MaxPool2d", "Module", "ModuleDict",
    "ModuleList", "MultiheadAttention", "ReLU", "Residual", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus",
    "Tanh", "TransformerEncoderLayer", "init",
]  # fmt: skip
