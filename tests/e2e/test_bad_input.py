"""Models that are broken in one way each: a clear error, the documented code, nothing written."""

import json
import os
import pickle
import re
import shutil
import struct

import pytest

UP = "model.layers.1.mlp.up_proj.weight"


def read_header(path):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + length]), content[8 + length:]


def write_header(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def tensors(path):
    """{name: (dtype, shape, bytes)}."""
    header, data = read_header(path)
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


def change_header(model, change):
    header, data = read_header(model / "model.safetensors")
    change(header)
    write_header(model / "model.safetensors", header, data)


def change_config(model, **values):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | values))


def shard(model):
    """Puts an index and two shards in place of the one file."""
    header, data = read_header(model / "model.safetensors")
    names = sorted(name for name in header if name != "__metadata__")
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        made, offset, pieces = {}, 0, []
        for name in part:
            begin, end = header[name]["data_offsets"]
            made[name] = header[name] | {"data_offsets": [offset, offset + end - begin]}
            pieces.append(data[begin:end])
            offset += end - begin
            weight_map[name] = file
        write_header(model / file, made, b"".join(pieces))
    (model / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": weight_map}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def truncated(model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def trailing(model):
    with open(model / "model.safetensors", "ab") as file:
        file.write(b"tail")


def overlapping(model):
    def change(header):
        first, second = [header[name] for name in header if name != "__metadata__"][:2]
        second["data_offsets"] = [first["data_offsets"][0],
                                  first["data_offsets"][0] + second["data_offsets"][1]
                                  - second["data_offsets"][0]]
    change_header(model, change)


def oversized_shape(model):
    def change(header):
        header[UP]["shape"] = [2**40, 2**40]
    change_header(model, change)


def oversized_tensor(model):
    def change(header):
        header[UP]["data_offsets"][1] += 2**40
    change_header(model, change)


def oversized_header(model):
    path = model / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:])


def pickled(model):
    (model / "model.safetensors").write_bytes(pickle.dumps({"weight": [1.0]}))


def misnamed_shard(model):
    index = shard(model)
    index["weight_map"][UP] = "../model-00001-of-00002.safetensors"
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def absent_shard(model):
    shard(model)
    (model / "model-00002-of-00002.safetensors").unlink()


def index_of_another(model):
    index = shard(model)
    index["weight_map"]["model.layers.9.other.weight"] = "model-00001-of-00002.safetensors"
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def unknown_family(model):
    change_config(model, model_type="mamba", architectures=["MambaForCausalLM"])


def broken_config(model):
    (model / "config.json").write_text("{\"model_type\": ")


def no_config(model):
    (model / "config.json").unlink()


def no_tensor(model):
    header, data = read_header(model / "model.safetensors")
    renamed = {("other" if name == UP else name): entry for name, entry in header.items()}
    write_header(model / "model.safetensors", renamed, data)


def wrong_shape(model):
    def change(header):
        header[UP]["shape"] = header[UP]["shape"][::-1]
    change_header(model, change)


def unsupported_dtype(model):
    def change(header):
        header[UP]["dtype"] = "I16"
    change_header(model, change)


def not_a_number(model):
    header, data = read_header(model / "model.safetensors")
    assert header[UP]["dtype"] == "BF16"
    data = bytearray(data)
    at = header[UP]["data_offsets"][0]
    data[at:at + 2] = b"\xc0\x7f"
    write_header(model / "model.safetensors", header, bytes(data))


def no_model(model):
    shutil.rmtree(model)
    model.mkdir()
    (model / "notes.txt").write_text("hello")


def nothing(model):
    shutil.rmtree(model)


# How it is broken -> (reasons that may be given, what the message names)
CASES = {
    truncated: ({"TENSOR_RANGE_INVALID", "HEADER_INVALID"}, "model.safetensors"),
    trailing: ({"TENSOR_RANGE_INVALID", "HEADER_INVALID"}, "model.safetensors"),
    overlapping: ({"TENSOR_RANGE_INVALID"}, "model.safetensors"),
    oversized_shape: ({"TENSOR_RANGE_INVALID", "HEADER_INVALID", "TENSOR_SHAPE_INVALID"}, UP),
    oversized_tensor: ({"TENSOR_RANGE_INVALID"}, UP),
    oversized_header: ({"HEADER_INVALID"}, "model.safetensors"),
    pickled: ({"FORMAT_REFUSED"}, "model.safetensors"),
    misnamed_shard: ({"INDEX_INVALID"}, "model.safetensors.index.json"),
    absent_shard: ({"INDEX_INVALID", "SOURCE_NOT_FOUND"}, "model-00002-of-00002.safetensors"),
    index_of_another: ({"INDEX_INVALID"}, "model.layers.9.other.weight"),
    unknown_family: ({"FAMILY_UNSUPPORTED"}, "mamba"),
    broken_config: ({"CONFIG_INVALID"}, "config.json"),
    no_config: ({"NOT_A_CHECKPOINT", "SOURCE_NOT_FOUND"}, "config.json"),
    no_tensor: ({"TENSOR_MISSING"}, UP),
    wrong_shape: ({"TENSOR_SHAPE_INVALID"}, UP),
    unsupported_dtype: ({"DTYPE_UNSUPPORTED"}, UP),
    not_a_number: ({"NOT_FINITE"}, UP),
    no_model: ({"NOT_A_CHECKPOINT"}, "model"),
    nothing: ({"SOURCE_NOT_FOUND"}, "model"),
}


@pytest.mark.parametrize("options", [[], ["--upload"]], ids=["by reference", "as bytes"])
@pytest.mark.parametrize("break_it", CASES, ids=lambda case: case.__name__)
def test_broken_model_is_refused_by_name(linchpin, demo_model, tmp_path, break_it, options):
    reasons, named = CASES[break_it]
    model = tmp_path / "model"
    shutil.copytree(demo_model, model)
    break_it(model)
    left = sorted(os.listdir(tmp_path))
    finished = linchpin.run("compress", model, tmp_path / "out", *options)
    assert finished.code == 42, finished.err
    assert finished.out == ""
    what, reason = re.fullmatch(r"error: (.*) \[([A-Z_]+)\]", finished.error).groups()
    assert reason in reasons, finished.error
    assert named in what
    assert len(what.split(": ")) >= 3, f"no remedy: {what}"
    assert sorted(os.listdir(tmp_path)) == left


@pytest.mark.parametrize("break_it", [truncated, unknown_family, no_tensor, no_model, nothing],
                         ids=lambda case: case.__name__)
@pytest.mark.parametrize("command", ["plan", "detect", "evaluate", "verify"])
def test_every_command_refuses_it(linchpin, demo_model, tmp_path, break_it, command):
    model = tmp_path / "model"
    shutil.copytree(demo_model, model)
    break_it(model)
    options = ["--tokens", demo_model / "tokens.json"] if command == "evaluate" else []
    finished = linchpin.run(command, model, *options)
    assert finished.code == 42, finished.err
    assert "model" in finished.error


def test_shards_themselves_are_fine(linchpin, demo_model, tmp_path):
    """What the cases above break works when it is whole."""
    shutil.copytree(demo_model, tmp_path / "model")
    shard(tmp_path / "model")
    linchpin("compress", tmp_path / "model", tmp_path / "out")
    linchpin("compress", demo_model, tmp_path / "one")
    parts = [tensors(path) for path in sorted((tmp_path / "out").glob("*.safetensors"))]
    assert len(parts) == 2
    whole = tensors(tmp_path / "one/model.safetensors")
    assert parts[0] | parts[1] == whole
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(whole)
