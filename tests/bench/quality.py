"""Perplexity of what `linchpin compress` writes, in transformers with compressed-tensors.

    build/venv/bin/python tests/bench/quality.py MODEL TEXT [--window N] [--windows N] [--skip N] \
        [--bos ID] -- "--scheme w4a16 --group-size 64" "--asymmetric" ...

One line per set of options: perplexity, size of the tensors, seconds.  LINCHPIN_BIN names the
folder with the programs.
"""

import argparse
import json
import math
import os
import pathlib
import shlex
import subprocess
import tempfile
import time

os.environ["TQDM_DISABLE"] = "1"  # before the libraries below read it

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import CompressedTensorsConfig


def windows_of(model, text, arguments):
    tokenizer = Tokenizer.from_file(str(pathlib.Path(model) / "tokenizer.json"))
    ids = tokenizer.encode(pathlib.Path(text).read_text("utf-8"), add_special_tokens=False).ids
    ids = ids[arguments.skip:]
    step = arguments.window - 1
    starts = range(0, arguments.windows * step, step)
    return torch.tensor([[arguments.bos] + ids[start:start + step] for start in starts])


def has_zero_points(directory):
    config = json.loads((pathlib.Path(directory) / "config.json").read_text("utf-8"))
    groups = config.get("quantization_config", {}).get("config_groups", {})
    return any(not group["weights"]["symmetric"] for group in groups.values())


def perplexity_of(directory, windows):
    # compressed-tensors 0.20 makes room for unpacked zero points only, unless all is unpacked.
    unpack = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, **(unpack if has_zero_points(directory) else {})).eval()
    total = 0.0
    with torch.no_grad():
        for batch in windows.split(4):
            logits = model(batch, use_cache=False).logits[:, :-1].flatten(0, 1)
            total += torch.nn.functional.cross_entropy(
                logits, batch[:, 1:].flatten(), reduction="sum").item()
    return math.exp(total / (windows.shape[0] * (windows.shape[1] - 1)))


def size_of(directory):
    return sum(path.stat().st_size for path in pathlib.Path(directory).glob("*.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--skip", type=int, default=0, help="tokens of the text to leave out")
    parser.add_argument("--bos", type=int, default=1)
    parser.add_argument("options", nargs="*", help="one set of options of compress each")
    arguments = parser.parse_intermixed_args()
    windows = windows_of(arguments.model, arguments.text, arguments)
    print(f"original | {perplexity_of(arguments.model, windows):.2f} | "
          f"{size_of(arguments.model) / 1e6:.1f} MB |", flush=True)
    linchpin = pathlib.Path(os.environ.get("LINCHPIN_BIN", "build/release/bin")) / "linchpin"
    for options in arguments.options:
        with tempfile.TemporaryDirectory() as scratch:
            out = pathlib.Path(scratch) / "out"
            begin = time.monotonic()
            subprocess.run([linchpin, "--quiet", "compress", arguments.model, out,
                            *shlex.split(options)], check=True, stdout=subprocess.DEVNULL)
            seconds = time.monotonic() - begin
            print(f"{options} | {perplexity_of(out, windows):.2f} | {size_of(out) / 1e6:.1f} MB | "
                  f"{seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
