"""What the documents of 0.1.0 in this folder are, for the tests and for the script that writes them."""

import json
import os
import pathlib

DOCUMENTS = pathlib.Path(__file__).with_name("documents-0.1.0")

# Options of `compress` by the names of the outputs.
OUTPUTS = {
    "w4a16": [],
    "gguf": ["--format", "gguf", "--scheme", "q4_0"],
    "dense": ["--format", "dense", "--scheme", "blocks"],
    "equalized": ["--asymmetric", "--equalize"],
}

# Where the model lies for the job in parts and the run that was killed: the versions of its files stand in
# what they left, and of an object in a store a version is the same wherever the store is.
KEY = "documents-0.1.0"
SOURCE, DESTINATION = f"s3://models/{KEY}/model", f"s3://models/{KEY}/out"
WRITTEN = 1_790_000_000  # seconds since 1970

# Of the run that was killed: it asks nothing of LibTorch.
KILLED = ["--detection", "off", "--source-digest", "off"]

TOKENS = [[1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45]]  # that the losses are of


def losses(linchpin, outputs, place):
    """{name: what `evaluate` says of an output}."""
    tokens = place / "tokens.json"
    tokens.write_text(json.dumps(TOKENS))
    return {name: linchpin("evaluate", outputs / name / ("model.gguf" if name == "gguf" else ""),
                           "--tokens", tokens, "--json").json["loss"] for name in OUTPUTS}


def put_source(store, model):
    """Puts the model into an object store, as old as it was then."""
    store.put(f"{KEY}/model", model)
    for path in (store.bucket / KEY / "model").iterdir():
        os.utime(path, (WRITTEN, WRITTEN))
