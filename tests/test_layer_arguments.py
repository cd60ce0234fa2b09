"""What a layer cannot be made with is told when it is made: a TypeError or ValueError that names it."""

import re

import numpy as np
import pytest

from minidl import nn

WRONG = [
    (nn.Dense, ("4", 2), {}, "in_features", "'4'"),
    (nn.Dense, (True, 2), {}, "in_features", "True"),
    (nn.Dense, (4, 2.0), {}, "out_features", "2.0"),
    (nn.Dense, (4, 2), {"bias": 3}, "bias", "3"),
    (nn.Dense, (4, 2), {"bias": "no"}, "bias", "'no'"),
    (nn.Dense, (4, 2), {"dtype": "x"}, "dtype", "'x'"),
    (nn.Dense, (4, 2), {"dtype": int}, "dtype", "int64"),
    (nn.Conv2d, (1, 2, 0), {}, "kernel_size", "0"),
    (nn.Conv2d, (1, 2, "3"), {}, "kernel_size", "'3'"),
    (nn.Conv2d, (1, 2, 3), {"bias": "x"}, "bias", "'x'"),
    (nn.Conv2d, (1, 2, 3), {"stride": 0}, "stride", "0"),
    (nn.Conv1d, (1, 2, 3), {"stride": (1, 1)}, "stride", "(1, 1)"),
    (nn.Conv2d, (1, 2, 3), {"dilation": 1.5}, "dilation", "1.5"),
    (nn.Conv2d, (1, 2, 3), {"padding": "bad"}, "padding", "'bad'"),
    (nn.Conv2d, (1, 2, 3), {"padding": "same", "stride": 2}, "stride of 1", "(2, 2)"),
    (nn.ConvTranspose2d, (1, 2, 3), {"output_padding": -1}, "output_padding", "-1"),
    (nn.Dropout, ("x",), {}, "p", "'x'"),
    (nn.Dropout, (None,), {}, "p", "None"),
    (nn.Dropout2d, (1.5,), {}, "p", "1.5"),
    (nn.Embedding, (3, "2"), {}, "embedding_dim", "'2'"),
    (nn.Embedding, (3, 2), {"padding_idx": "x"}, "padding_idx", "'x'"),
    (nn.Embedding, (3, 2), {"padding_idx": 0.0}, "padding_idx", "0.0"),
    (nn.Embedding, (3, 2), {"padding_idx": True}, "padding_idx", "True"),
    (nn.LSTM, (3, 2), {"dropout": "x"}, "dropout", "'x'"),
    (nn.LSTM, (3, 2), {"dropout": 2}, "dropout", "2"),
    (nn.LSTM, (3, 2), {"bidirectional": "x"}, "bidirectional", "'x'"),
    (nn.GRU, (3, 2), {"batch_first": 3}, "batch_first", "3"),
    (nn.RNN, (3, 2), {"bias": None}, "bias", "None"),
    (nn.BatchNorm1d, (4,), {"affine": "x"}, "affine", "'x'"),
    (nn.BatchNorm2d, (4,), {"track_running_stats": 0}, "track_running_stats", "0"),
    (nn.LayerNorm, ([],), {}, "normalized_shape", "none"),
    (nn.LayerNorm, (4,), {"bias": 2}, "bias", "2"),
    (nn.LayerNorm, (4,), {"elementwise_affine": "x"}, "elementwise_affine", "'x'"),
    (nn.GroupNorm, (2, 4), {"affine": "x"}, "affine", "'x'"),
    (nn.MultiheadAttention, ("4", 2), {}, "embed_dim", "'4'"),
    (nn.MultiheadAttention, (4, "2"), {}, "num_heads", "'2'"),
    (nn.MultiheadAttention, (4, 3), {}, "multiple of num_heads", "4 and 3"),
    (nn.MultiheadAttention, (4, 2, "a"), {}, "dropout", "'a'"),
    (nn.MultiheadAttention, (4, 2), {"kdim": 0}, "kdim", "0"),
    (nn.MultiheadAttention, (4, 2), {"batch_first": "x"}, "batch_first", "'x'"),
    (nn.TransformerEncoderLayer, ("4", 2), {}, "d_model", "'4'"),
    (nn.TransformerEncoderLayer, (4, 2), {"norm_first": 1}, "norm_first", "1"),
    (nn.TransformerEncoderLayer, (4, 2, 0), {}, "dim_feedforward", "0"),
    (nn.MaxPool2d, (0,), {}, "kernel_size", "0"),
    (nn.MaxPool1d, ("2",), {}, "kernel_size", "'2'"),
    (nn.MaxPool2d, (None,), {}, "kernel_size", "None"),
    (nn.MaxPool1d, ((2, 2),), {}, "kernel_size", "(2, 2)"),
    (nn.MaxPool2d, (2,), {"stride": 0}, "stride", "0"),
    (nn.MaxPool2d, (2,), {"padding": 2}, "padding", "(2, 2)"),
    (nn.MaxPool2d, (2,), {"dilation": 0}, "dilation", "0"),
    (nn.MaxPool2d, (2,), {"ceil_mode": "x"}, "ceil_mode", "'x'"),
    (nn.AvgPool2d, ((2,),), {}, "kernel_size", "(2,)"),
    (nn.AvgPool2d, (2,), {"count_include_pad": "x"}, "count_include_pad", "'x'"),
    (nn.AvgPool1d, (2,), {"padding": 3}, "padding", "(3,)"),
    (nn.AvgPool1d, (2,), {"ceil_mode": None}, "ceil_mode", "None"),
    (nn.AdaptiveAvgPool2d, ("x",), {}, "output_size", "'x'"),
    (nn.AdaptiveAvgPool2d, ((2, 2, 2),), {}, "output_size", "[2, 2, 2]"),
    (nn.AdaptiveAvgPool1d, (0,), {}, "output_size", "0"),
    (nn.GELU, ("x",), {}, "approximate", "'x'"),
    (nn.Softmax, ("x",), {}, "dim", "'x'"),
    (nn.LogSoftmax, (1.5,), {}, "dim", "1.5"),
    (nn.Sequential, (nn.ReLU,), {}, "modules", "ReLU"),
    (nn.ModuleList, ([nn.ReLU],), {}, "modules", "ReLU"),
    (nn.Residual, (3,), {}, "module", "3"),
    (nn.Residual, (nn.ReLU(), "x"), {}, "shortcut", "'x'"),
]


@pytest.mark.parametrize(("layer", "args", "options", "what", "found"), WRONG)
def test_what_a_layer_cannot_be_made_with(layer, args, options, what, found):
    told = rf"expected (.* )?{re.escape(what)}.*found.*{re.escape(found)}|expected .*{what}, found {re.escape(found)}"
    with pytest.raises((TypeError, ValueError), match=told):
        layer(*args, **options)


def test_what_a_layer_can_be_made_with():
    nn.Dense(np.int64(4), np.int32(2), bias=np.bool_(False))
    nn.Conv1d(1, 2, [3], stride=np.int64(2), padding="valid")
    nn.Conv2d(1, 2, 3, padding="same", stride=1, dilation=(1, 2))
    nn.MaxPool2d((2, 3), padding=1)
    nn.AvgPool1d(4, padding=2)
    nn.AdaptiveAvgPool2d((None, 3))
    nn.AdaptiveAvgPool1d(None)
    nn.Embedding(3, 2, padding_idx=np.int64(-3))
    nn.Sequential(nn.ReLU(), np.tanh)
    nn.Residual(nn.ReLU(), None)
    assert type(nn.Dropout(np.float32(0.5)).p) is float
    assert nn.Softmax(np.int64(0)).dim == 0
    assert nn.MultiheadAttention(4, 2, kdim=3).kdim == 3
