"""The node tests that ONNX generates for its own operators, through the adapters of `onnx_nodes`."""

import warnings

import numpy as np
import pytest
from onnx_nodes import ADAPTERS

from minidl import Tensor
from minidl.jit import interpreted

onnx = pytest.importorskip("onnx", reason='ONNX\'s own tests come with `pip install "minidl[oracle]"`')
pytestmark = pytest.mark.skipif(interpreted(), reason="the same ops are tested interpreted elsewhere, on less")

# What no case of these ops is about is not counted: minidl has float32 and float64, and no text or sequences.
TYPES = {"float32", "float64", "bool", "int64", "int32"}
INTEGERS = "a result of integers: minidl's op takes floats, or gives NumPy's promotion and not the left type"
DRAWN = "the mask is drawn by NumPy's old generator, which PCG64 does not repeat"
EMPTY = "the largest, the smallest and the log-sum of nothing are errors here, as NumPy's max and min"
INDICES = "ops.max_pool2d keeps to itself where the largest values were"
ABSENT = {  # what no op or layer of minidl does, as the adapters say it; these tests are not counted
    "pooling over one axis or two only",
    "averages of windows without gaps",
    "two axes only",
    "peepholes, other activations, and GRUs that reset before the product",
    "batches first",
}
EXCEPTIONS = {
    "test_cumsum_2d_int32": INTEGERS,
    "test_cumsum_1d_int32_exclusive": INTEGERS,
    "test_div_int32_trunc": INTEGERS,
    "test_mod_int64_fmod": INTEGERS,
    "test_pow_types_float32_int64": INTEGERS,
    "test_pow_types_int64_float32": INTEGERS,
    "test_pow_types_float32_int32": INTEGERS,
    "test_pow_types_int32_float32": INTEGERS,
    "test_training_dropout": DRAWN,
    "test_training_dropout_mask": DRAWN,
    "test_training_dropout_default": DRAWN,
    "test_training_dropout_default_mask": DRAWN,
    "test_gathernd_example_int32_batch_dim1": "batch_dims: NumPy's indexing has nothing like it",
    "test_convtranspose_output_shape": "the padding that a wanted output needs is not the adapter's to find",
    "test_maxpool_with_argmax_2d_precomputed_pads": INDICES,
    "test_maxpool_with_argmax_2d_precomputed_strides": INDICES,
    "test_reduce_log_sum_exp_empty_set": EMPTY,
    "test_reduce_max_empty_set": EMPTY,
    "test_reduce_max_empty_set_bool": EMPTY,
    "test_reduce_min_empty_set": EMPTY,
}


def collect():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [t for t in collect_testcases(None) if len(t.model.graph.node) == 1]
    return [t for t in found if t.model.graph.node[0].op_type in ADAPTERS and known(t)]


def known(test):
    arrays = [x for inputs, outputs in test.data_sets for x in (*inputs, *outputs)]
    return all(isinstance(x, np.ndarray | np.generic) and str(x.dtype) in TYPES for x in arrays)


def attributes(node):
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


def run(test):
    (node,) = test.model.graph.node
    names = [x.name for x in test.model.graph.input]
    wanted = [x.name for x in test.model.graph.output]
    for inputs, outputs in test.data_sets:
        given = dict(zip(names, map(np.asarray, inputs), strict=True))
        with np.errstate(all="ignore"):
            how = {"num_outputs": len(node.output), **attributes(node)}
            y = ADAPTERS[node.op_type](how, *(given.get(name) for name in node.input))
        found = dict(zip(node.output, y if isinstance(y, list | tuple) else [y], strict=False))
        for name, expected in zip(wanted, outputs, strict=True):
            x = found[name].data if isinstance(found[name], Tensor) else np.asarray(found[name])
            assert x.shape == np.shape(expected)
            assert x.dtype == np.asarray(expected).dtype
            np.testing.assert_allclose(x, expected, rtol=test.rtol, atol=test.atol)


def test_nodes():
    tests = collect()
    failed, absent = {}, {}
    for test in tests:
        try:
            run(test)
        except NotImplementedError as error:
            absent[test.name] = str(error)
        except Exception as error:
            failed[test.name] = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    unexpected = {name: why for name, why in failed.items() if name not in EXCEPTIONS}
    assert not unexpected
    assert set(absent.values()) <= ABSENT
    tests = [t for t in tests if t.name not in absent]
    assert set(EXCEPTIONS) & {t.name for t in tests} == set(failed), "an exception that passes is none"
    assert len(tests) > 300
    assert len(failed) <= 0.05 * len(tests)
