#!/usr/bin/env python3
"""What it costs to compress a model in parts, beside one process that does the same:

    parts.py MODEL [--shards 8] [--scale importance] [--place DIRECTORY]

MODEL, a directory of safetensors with an index, is written again in that many shards of about one size.  Of one
server each: processor time of CompressModel, and of every call of the compression in parts; what a shard's call
takes besides its work is told by a call for a shard that is done.  The bytes are compared.
"""

import argparse
import json
import os
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import Server  # noqa: E402  (the path comes first)
from support.foreign_client import ForeignClient  # noqa: E402

PATIENCE = 3600
SKIPPED_CALLS = 20


def tensors_of(model):
    """(name, entry, file, offset of its data) of all, in order."""
    for path in sorted(model.glob("*.safetensors")):
        with open(path, "rb") as file:
            length, = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for name, entry in sorted(header.items(), key=lambda each: each[1].get("data_offsets", [0])[0]):
            if name != "__metadata__":
                yield name, entry, path, 8 + length + entry["data_offsets"][0]


def reshard(model, out, shards):
    """The same model in `shards` files."""
    out.mkdir()
    tensors = list(tensors_of(model))
    sizes = [entry["data_offsets"][1] - entry["data_offsets"][0] for _, entry, _, _ in tensors]
    parts, filled = [[] for _ in range(shards)], 0
    for index, (tensor, size) in enumerate(zip(tensors, sizes)):
        # No shard stays empty, however large the tensors are.
        part = max(min(filled * shards // sum(sizes), index), shards - len(tensors) + index)
        parts[part].append((*tensor, size))
        filled += size
    weight_map = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05}-of-{shards:05}.safetensors"
        header, offset = {}, 0
        for tensor, entry, _, _, size in part:
            header[tensor] = {**entry, "data_offsets": [offset, offset + size]}
            weight_map[tensor] = name
            offset += size
        text = json.dumps(header).encode()
        with open(out / name, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for _, _, path, begin, size in part:
                with open(path, "rb") as source:
                    source.seek(begin)
                    for at in range(0, size, 1 << 24):
                        file.write(source.read(min(1 << 24, size - at)))
    (out / "config.json").write_bytes((model / "config.json").read_bytes())
    (out / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map}))


class Meter:
    """Processor seconds that a server takes."""

    def __init__(self, server):
        self.pid = server.process.pid

    def now(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def of(self, work):
        before = self.now()
        work()
        return self.now() - before


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--scale", default="importance")
    parser.add_argument("--place", help="for what is written")
    options = parser.parse_args()
    how = {"quantization": {"scale": f"SCALE_RULE_{options.scale.upper()}"}}
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        place = pathlib.Path(place)
        model = place / "model"
        reshard(options.model, model, options.shards)
        server = Server(place / "log", "--read-root", place, "--write-root", place)
        meter = Meter(server)
        with ForeignClient(server.endpoint) as client:
            def call(name, **fields):
                return client.call(name, timeout=PATIENCE, **fields)

            whole = meter.of(lambda: call("CompressModel", source=str(model),
                                          destination=str(place / "whole"), **how))
            job = {"source": str(model), "destination": str(place / "parts"), **how}
            job["job_key"] = call("PlanCompression", source=str(model), **how).job_key

            def prepare():
                done = call("PrepareCompression", job=job)
                job["detection_json"] = done.detection_json
                job["importance_sha256"] = done.importance_sha256

            prepared = meter.of(prepare)
            shards = meter.of(lambda: [call("CompressShard", job=job, index=index)
                                       for index in range(options.shards)])
            skipped = meter.of(lambda: [call("CompressShard", job=job, index=0)
                                        for _ in range(SKIPPED_CALLS)]) / SKIPPED_CALLS
            finalized = meter.of(lambda: call("FinalizeCompression", job=job))
        server.stop()
        same = files_of(place / "whole") == files_of(place / "parts")
    total = prepared + shards + finalized
    print(f"{options.shards} shards, {options.scale}: one process {whole:.2f} s of processor time; in parts "
          f"{total:.2f} s ({prepared:.2f} prepare, {shards:.2f} shards, {finalized:.2f} finalize); a call for "
          f"a shard that is done {1e3 * skipped:.1f} ms; {100 * (total / whole - 1):+.1f} %; "
          f"{'the same bytes' if same else 'OTHER BYTES'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
