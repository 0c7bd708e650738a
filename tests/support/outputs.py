"""Outputs of `linchpin compress` that several tests look at, each made once.

They lie in build/outputs, under a digest of the programs, the source and the options, so that test files
and processes share them.  tests/run.sh begins without any.
"""

import contextlib
import fcntl
import hashlib
import json
import pathlib
import shutil

from support.build import ROOT, binaries

OUTPUTS = ROOT / "build/outputs"


@contextlib.contextmanager
def locked(path):
    """One process at a time holds the lock file `path`."""
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def identity(path):
    """What tells one version of a file or directory from another, without reading it."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def made_once(source, options, make):
    """The directory that make(path) makes of a source with these options.  Not to be written to."""
    programs = [identity(file) for file in sorted(binaries().iterdir())]
    key = hashlib.sha256(json.dumps([programs, identity(source), options]).encode()).hexdigest()[:24]
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    out = OUTPUTS / key
    with locked(OUTPUTS / f"{key}.lock"):
        if not out.exists():
            made = OUTPUTS / f"{key}.made"
            shutil.rmtree(made, ignore_errors=True)
            make(made)
            made.rename(out)
    return out


def compressed(linchpin, source, *options):
    """The directory that `linchpin compress SOURCE OUT options` writes.  Not to be written to."""
    source = pathlib.Path(source)
    options = [str(option) for option in options]
    return made_once(source, options, lambda made: linchpin("compress", source, made, *options))


def measured(linchpin, source):
    """The file in which a job in parts keeps the mean square of each weight's input channels: what `compress`
    goes by, too."""
    def make(made):
        made.mkdir()
        linchpin("plan", source, made / "out", "--save", made / "job.json", "--preserve", "none")

    out = made_once(pathlib.Path(source), ["what a job measures"], make)
    file, = out.glob("out.shard-*-importance/importance.safetensors")
    return file
