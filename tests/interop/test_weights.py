"""Tables of weights, the errors they list, and .safetensors files written by hand here."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.weights import (
    Entry,
    convolution,
    dense,
    load,
    normalization,
    same,
    shapes_of,
    stacked,
    to_ours,
    to_theirs,
    transposed,
)
from neuralmon.models import MLP

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "bool": "BOOL"}


def write_safetensors(path, arrays, metadata=None):
    header, content = {"__metadata__": metadata} if metadata else {}, b""
    for name, array in arrays.items():
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": TYPES[str(array.dtype)], "shape": list(array.shape), "data_offsets": offsets}
        content += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


MIXED = {
    "double": RNG.normal(size=(2, 3)),
    "single": numbers(4),
    "half": numbers(3, 2).astype(np.float16),
    "brain": numbers(5).astype(jnp.bfloat16),
    "integers": np.arange(6).reshape(1, 2, 3),
    "flags": np.array([True, False]),
    "scalar": np.float32(3).reshape(()),
    "nothing": np.zeros((0, 4), np.float32),
}


def check_mixed(loaded):
    assert loaded.keys() == MIXED.keys()
    for name, array in MIXED.items():
        dtype = np.float32 if name in ("half", "brain") else array.dtype
        assert loaded[name].dtype == dtype and loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name], array.astype(dtype))


def test_files_folders_and_mappings(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", MIXED, {"format": "pt"})
    check_mixed(load(tmp_path / "model.safetensors"))
    check_mixed(load(str(tmp_path)))
    check_mixed(load(MIXED))


def test_a_folder_of_several_files(tmp_path):
    names = sorted(MIXED)
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, keys in parts.items():
        write_safetensors(tmp_path / file, {key: MIXED[key] for key in keys})
    write_safetensors(tmp_path / "model.safetensors", {"left": numbers(2)})  # the index decides
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    check_mixed(load(tmp_path))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(RequestError, match=r"b\.safetensors: there is no such file"):
        load(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(RequestError, match=r"index\.json does not say which files there are"):
        load(tmp_path)


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    values = numbers(3)
    tensors = {
        str(kind): torch.nn.Parameter(torch.from_numpy(values).to(kind)) for kind in (torch.float32, torch.bfloat16)
    }
    loaded = load(tensors)
    assert {array.dtype for array in loaded.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(loaded["torch.bfloat16"], values.astype(jnp.bfloat16).astype(np.float32))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content[:8] + b"?" + content[9:],
        lambda content: content.replace(b'"F32"', b'"F64"'),
        lambda content: content.replace(b'"F32"', b'"F31"'),
        lambda content: content.replace(b"dtype", b"dtypo"),
    ],
)
def test_damaged_files(damage, tmp_path):
    file = tmp_path / "model.safetensors"
    write_safetensors(file, {"x": numbers(4)})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RequestError, match=r"model\.safetensors is no whole \.safetensors file: "):
        load(file)


def test_nothing_there(tmp_path):
    with pytest.raises(RequestError, match=r"model\.safetensors: there is no such file; give a state dict, "):
        load(tmp_path)


MODEL = MLP((4,), num_classes=2)
ENTRIES = [*dense("params/hidden_0", "fc1"), *dense("params/output", "fc2")]
SHAPES = shapes_of(MODEL.init, jax.ShapeDtypeStruct((1, 3), jnp.float32))


def state_dict():
    return {"fc1.weight": numbers(4, 3), "fc1.bias": numbers(4), "fc2.weight": numbers(2, 4), "fc2.bias": numbers(2)}


def test_there_and_back():
    theirs, points = state_dict(), numbers(5, 3)
    variables = to_ours(ENTRIES, theirs, SHAPES)
    hidden = np.maximum(points @ theirs["fc1.weight"].T + theirs["fc1.bias"], 0)
    expected = hidden @ theirs["fc2.weight"].T + theirs["fc2.bias"]
    np.testing.assert_allclose(MODEL.apply(variables, points), expected, rtol=1e-5, atol=1e-6)
    back = to_theirs(ENTRIES, variables)
    assert back.keys() == theirs.keys()
    for key, array in back.items():
        np.testing.assert_array_equal(array, theirs[key])
        assert array.flags["C_CONTIGUOUS"]


def test_everything_that_is_wrong_is_said_at_once():
    theirs = state_dict()
    del theirs["fc1.bias"]
    theirs |= {"fc3.bias": numbers(1), "fc1.num_batches_tracked": numbers(1), "fc2.weight": numbers(4, 2)}
    theirs["fc2.bias"] = numbers(3)
    theirs["fc1.weight"] = numbers(4)
    with pytest.raises(RequestError) as caught:
        to_ours(ENTRIES, theirs, SHAPES, ignored=["*.num_batches_tracked"])
    assert re.fullmatch(
        r"these weights are not this model's: fc1\.bias is missing; fc3\.bias is left over; "
        r"fc1\.weight \(4,\) does not fit params/hidden_0/kernel \(3, 4\); "
        r"fc2\.weight \(4, 2\) does not fit params/output/kernel \(4, 2\): it makes \(2, 4\); "
        r"fc2\.bias \(3,\) does not fit params/output/bias \(2,\): it makes \(3,\)",
        str(caught.value),
    )


def test_variables_of_another_model_are_not_written():
    variables = to_ours(ENTRIES, state_dict(), SHAPES)
    variables["params"]["hidden_1"] = variables["params"].pop("hidden_0")
    variables["params"]["output"]["kernel"] = numbers(4)
    with pytest.raises(RequestError) as caught:
        to_theirs(ENTRIES, variables)
    assert re.match(
        r"these variables are not this model's: params/hidden_0/kernel is missing; params/hidden_0/bias is missing; "
        r"params/hidden_1/bias is left over; params/hidden_1/kernel is left over; "
        r"params/output/kernel \(4,\) cannot be written: ",
        str(caught.value),
    )


def test_a_long_list_is_cut():
    theirs = state_dict() | {f"extra.{number:02d}": numbers(1) for number in range(25)}
    with pytest.raises(RequestError, match=r"extra\.19 is left over; and 5 more$"):
        to_ours(ENTRIES, theirs, SHAPES)


def test_a_table_with_a_hole_is_the_tables_fault():
    theirs = {key: array for key, array in state_dict().items() if key != "fc2.bias"}
    with pytest.raises(AssertionError, match=r"no entry for .*params/output/bias"):
        to_ours(ENTRIES[:-1], theirs, SHAPES)


@pytest.mark.parametrize(
    ("entries", "shapes"),
    [
        (convolution("c", "conv"), {"conv.weight": (5, 2, 3, 4), "conv.bias": (5,)}),
        (convolution("c", "conv", bias=False), {"conv.weight": (5, 2, 3, 4)}),
        (normalization("n", "norm"), {"norm.weight": (3,), "norm.bias": (3,)}),
        ([transposed("a", "b", (2, 0, 1))], {"b": (2, 3, 4)}),
        ([same("s", "t")], {"t": ()}),
    ],
)
def test_entries_are_inverses(entries, shapes):
    theirs = {key: numbers(*shape) if shape else np.float32(2).reshape(()) for key, shape in shapes.items()}
    ours = {}
    for entry in entries:
        ours |= dict(zip(entry.ours, entry.read(*(theirs[key] for key in entry.theirs)), strict=True))
    if "c/kernel" in ours:
        assert ours["c/kernel"].shape == (3, 4, 2, 5)
        np.testing.assert_array_equal(ours["c/kernel"][1, 2, 0], theirs["conv.weight"][:, 0, 1, 2])
    nested = {}
    for path, array in ours.items():
        *above, name = path.split("/")
        (nested.setdefault(above[0], {}) if above else nested)[name] = array
    back = to_theirs(entries, nested)
    for key, array in theirs.items():
        assert back[key].shape == array.shape
        np.testing.assert_array_equal(back[key], array)


def test_stacked_layers_of_separate_tensors():
    """One of the entries makes two of our arrays of one of their tensors, as attention's projections are stored."""

    def layer(number):
        halves = Entry(
            ("layers/key", "layers/value"),
            (f"{number}.both",),
            lambda both: np.split(both.T, 2, axis=1),
            lambda key, value: (np.concatenate([key, value], axis=1).T,),
        )
        return [halves, *dense("layers/out", f"{number}.out")]

    entries = stacked([layer(number) for number in range(3)])
    theirs = {}
    for number in range(3):
        theirs |= {
            f"{number}.both": numbers(8, 5),
            f"{number}.out.weight": numbers(2, 4),
            f"{number}.out.bias": numbers(2),
        }
    shapes = {
        "layers": {
            "key": np.zeros((3, 5, 4)),
            "value": np.zeros((3, 5, 4)),
            "out": {"kernel": np.zeros((3, 4, 2)), "bias": np.zeros((3, 2))},
        }
    }
    ours = to_ours(entries, theirs, shapes)
    np.testing.assert_array_equal(ours["layers"]["value"][1], theirs["1.both"][4:].T)
    np.testing.assert_array_equal(ours["layers"]["out"]["kernel"][2], theirs["2.out.weight"].T)
    back = to_theirs(entries, ours)
    assert back.keys() == theirs.keys()
    for key, array in back.items():
        np.testing.assert_array_equal(array, theirs[key])
    ours["layers"]["value"] = ours["layers"]["value"][:2]
    with pytest.raises(RequestError, match=r"layers/value \(2, 5, 4\) cannot be written: the model has 3 layers"):
        to_theirs(entries, ours)
    with pytest.raises(RequestError, match=r"1\.out\.bias is missing"):
        to_ours(entries, {key: array for key, array in theirs.items() if key != "1.out.bias"}, shapes)
    with pytest.raises(RequestError, match=r"2\.out\.bias \(3,\) does not fit layers/out/bias \(3, 2\)"):
        to_ours(entries, {**theirs, "2.out.bias": numbers(3)}, shapes)
