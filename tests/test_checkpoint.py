"""Models in files: the same bits come back, PyTorch reads them, and nothing damaged gets in or harms what is there."""

import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from minidl import nn
from minidl.checkpoint import CheckpointError, check_writable, load_model, save_model, write_file

CONFIG = {"dataset": "digits", "hidden": [5], "rate": 0.1}


def model_of(dtype=np.float32):
    layers = nn.Flatten(), nn.Dense(6, 5, dtype=dtype), nn.ReLU(), nn.Dropout(0.25), nn.Dense(5, 3, False, dtype=dtype)
    return nn.Sequential(*layers)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, model_of(), CONFIG)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_bit_for_bit(tmp_path, dtype):
    model, path = model_of(dtype), tmp_path / "model.safetensors"
    save_model(path, model, CONFIG)
    loaded, config = load_model(path)
    assert config == CONFIG
    assert repr(loaded) == repr(model)
    assert loaded[3].p == 0.25
    for name, values in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == dtype
        assert np.array_equal(loaded.state_dict()[name], values)
    assert loaded[1].weight.data.flags.f_contiguous  # dense's own order, or every step would copy
    assert loaded[1].weight.data.base is not None
    assert list(tmp_path.iterdir()) == [path]


def test_layers_with_options_come_back(tmp_path):
    model = nn.Sequential(
        nn.LeakyReLU(0.3), nn.ELU(2.0), nn.GELU("tanh"), nn.Softplus(2.0, 5.0), nn.Softmax(0), nn.Tanh()
    )
    save_model(tmp_path / "m", model, {})
    assert repr(load_model(tmp_path / "m")[0]) == repr(model)
    assert vars(load_model(tmp_path / "m")[0][3]) == vars(model[3])


def test_the_file_is_plain_safetensors(saved):
    arrays = load_file(saved)
    assert {name: a.shape for name, a in arrays.items()} == {"1.weight": (5, 6), "1.bias": (5,), "4.weight": (3, 5)}
    loaded, _ = load_model(saved)
    assert all(np.array_equal(arrays[name], values) for name, values in loaded.state_dict().items())


def test_torch_reads_it_by_its_names(saved):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from safetensors.torch import load_file

    layers = torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Dropout(0.25), torch.nn.Linear(5, 3, bias=False)
    theirs = torch.nn.Sequential(torch.nn.Flatten(), *layers).eval()
    theirs.load_state_dict(load_file(saved))
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 12
    ours = load_model(saved)[0].eval()(x).numpy()
    np.testing.assert_allclose(theirs(torch.from_numpy(x)).detach().numpy(), ours, rtol=1e-5, atol=1e-6)


def test_only_models_that_can_be_built_again_are_saved(tmp_path):
    class Mine(nn.ReLU):
        pass

    for model in (nn.Dense(2, 2), nn.Sequential(Mine()), nn.Sequential(nn.Sequential(nn.ReLU()))):
        with pytest.raises(TypeError, match="save_model: expected"):
            save_model(tmp_path / "m", model, {})
    with pytest.raises(TypeError):
        save_model(tmp_path / "m", model_of(), {"array": np.zeros(2)})
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ writing


def test_a_failed_write_leaves_what_was_there(saved, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(saved, model_of(), CONFIG)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_an_interrupted_write_leaves_what_was_there(saved, monkeypatch):
    before = saved.read_bytes()

    def interrupted(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(saved, model_of(), CONFIG)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.skipif(os.name == "nt", reason="Windows needs a privilege for links")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "target"
    link.symlink_to(target)
    write_file(link, b"x")
    assert link.is_symlink()
    assert target.read_bytes() == b"x"


def test_what_cannot_be_written_is_told_before(tmp_path):
    check_writable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="not a file"):
        check_writable(tmp_path)
    with pytest.raises(OSError, match="there is no directory"):
        check_writable(tmp_path / "none" / "file")
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "file").touch(0o400)
        with pytest.raises(OSError, match="read-only"):
            check_writable(tmp_path / "file")


# ------------------------------------------------------------------------------------------ reading


def refused(path, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        load_model(path)
    assert path.name in str(caught.value)


def test_no_file_or_not_a_file(tmp_path):
    refused(tmp_path / "none", "No such file")
    refused(tmp_path, "directory")


def test_every_truncation_is_refused(saved):
    whole = saved.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in [*range(0, header, 7), header, header + 1, len(whole) - 1]:
        saved.write_bytes(whole[:length])
        refused(saved, "whole safetensors file")
    saved.write_bytes(whole + b"x")
    refused(saved, "whole safetensors file")


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"PK\3\4" + bytes(100), b"\x80\x02}q\x00." + bytes(50), struct.pack("<Q", 1 << 40) + b"{}",
     struct.pack("<Q", (1 << 64) - 1), struct.pack("<Q", 2) + b"{]", struct.pack("<Q", 0), b"\xff" * 64],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "file", "whole safetensors file")


def test_a_huge_header_is_refused_unread(tmp_path):
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 90_000_000))
        file.truncate(95_000_000)
    refused(path, "announce a header of 90,000,000")


def test_safetensors_of_others_are_refused(tmp_path):
    path = tmp_path / "file"
    for metadata in (None, {"format": "pt"}):
        path.write_bytes(save({"0.weight": np.zeros((2, 2), np.float32)}, metadata))
        refused(path, "load_state_dict")


GOOD = {"version": 1, "layers": [["Dense", {"in_features": 2, "out_features": 3}], ["ReLU", {}]], "config": {}}
ARRAYS = {"0.weight": np.zeros((3, 2), np.float32), "0.bias": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("about", "arrays", "match"),
    [
        ("{", ARRAYS, "damaged"),
        ("[" * 100_000, ARRAYS, "damaged"),
        ([], ARRAYS, "damaged"),
        ({}, ARRAYS, "damaged"),
        ({**GOOD, "version": 2}, ARRAYS, "expected version 1"),
        ({**GOOD, "version": None}, ARRAYS, "expected version 1"),
        ({**GOOD, "config": 3}, ARRAYS, "config"),
        ({**GOOD, "layers": {}}, ARRAYS, "list of layers"),
        ({**GOOD, "layers": [["Module", {}]]}, {}, "a layer of minidl.nn"),
        ({**GOOD, "layers": [["os.system", {"command": "true"}]]}, {}, "a layer of minidl.nn"),
        ({**GOOD, "layers": [["ReLU"]]}, {}, "a layer of minidl.nn"),
        ({**GOOD, "layers": [7]}, {}, "a layer of minidl.nn"),
        ({**GOOD, "layers": [[["ReLU"], {}]]}, {}, "a layer of minidl.nn"),
        ({**GOOD, "layers": [["ReLU", {"x": 1}]]}, {}, "a layer of minidl.nn"),
        ({**GOOD, "layers": [["Dropout", {"p": 7}]]}, {}, "a layer of minidl.nn"),
        ({**GOOD, "layers": [["Dense", {"in_features": 10**12, "out_features": 10**12}]]}, ARRAYS, "0.weight of shape"),
        ({**GOOD, "layers": [["Dense", {}]]}, ARRAYS, "a layer of minidl.nn"),
        (GOOD, {}, "0.weight of shape"),
        (GOOD, {"0.weight": ARRAYS["0.weight"]}, "0.bias"),
        (GOOD, {**ARRAYS, "9.weight": np.zeros(1, np.float32)}, "9.weight"),
        (GOOD, {**ARRAYS, "0.weight": np.zeros((2, 3), np.float32)}, "0.weight of shape"),
        (GOOD, {**ARRAYS, "0.bias": np.zeros(4, np.float32)}, "0.bias of shape"),
        (GOOD, {**ARRAYS, "0.bias": np.zeros(3, np.float64)}, "0.bias in float32"),
        (GOOD, {**ARRAYS, "0.bias": np.zeros(3, np.int32)}, "0.bias in float32"),
        (GOOD, {**ARRAYS, "0.bias": np.zeros(3, np.float16)}, "0.bias in float32"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, about, arrays, match):
    path = tmp_path / "file"
    path.write_bytes(save(arrays, {"minidl": about if isinstance(about, str) else json.dumps(about)}))
    refused(path, match)


def test_the_cases_above_are_wrong_in_one_thing_each(tmp_path):
    (tmp_path / "file").write_bytes(save(ARRAYS, {"minidl": json.dumps(GOOD)}))
    assert len(load_model(tmp_path / "file")[0]) == 2
