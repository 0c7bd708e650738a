"""A random llama checkpoint of any size with a super weight, in shards (tests/bench/make_checkpoint.py)."""

import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "bench/make_checkpoint.py"


def make_model(path, **sizes):
    """Writes it to `path` and returns that; sizes as the script's options, layers_per_shard=1."""
    options = [text for name, size in sizes.items()
               for text in ("--" + name.replace("_", "-"), str(size))]
    subprocess.run([sys.executable, str(SCRIPT), str(path), *options], check=True,
                   capture_output=True)
    return path
