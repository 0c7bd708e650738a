"""Weights are never kept: what a detection takes at its peak grows with the layers by their trace alone, the
prompt's residual stream in three forms; and a compression keeps to the ceiling that it is given."""

import os
import pathlib
import re
import subprocess

from conftest import CommandLine
from support.sparse_model import write_sparse_model


def peak_of(command):
    """Resident bytes at the peak of a command, or of a process that it started and waited for, on two
    threads, however many cores there are."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          env={**os.environ, "LINCHPIN_THREADS": "2"}) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def test_forty_layers_take_the_memory_of_two(linchpin, tmp_path):
    peaks = {}
    for layers in (2, 40):
        model = tmp_path / str(layers)
        total = write_sparse_model(model, layers, intermediate=4096)
        peaks[layers] = peak_of(linchpin.command("detect", model))
    print(peaks)
    trace = 38 * 3 * 16 * 512 * 4  # 16 tokens
    # It would grow by nearly all of them if weights stayed.
    assert peaks[40] - peaks[2] < trace + total / 4, peaks


def peak_beside_files(server):
    """Bytes that a server had resident at its peak, without the pages of its programs' files: of those each
    system keeps as many at hand as it likes."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    peak, files = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) for name in ("VmHWM", "RssFile"))
    return (peak - files) * 1024


def test_a_ceiling_is_kept_or_refused_with_the_least_that_works(linchpin, start_server, tmp_path):
    model = tmp_path / "model"
    total = write_sparse_model(model, 6, hidden=2048, intermediate=5632)
    refused = linchpin.run("compress", model, tmp_path / "out", "--detection", "off",
                           "--max-memory", "50MB")
    assert refused.code == 42 and "[OPTION_INVALID]" in refused.err, refused.err
    least = int(re.search(r"allow (\d+) or more", refused.err)[1])
    assert 50e6 < least < total
    for name, allowed in (("least", least), ("more", least + 60_000_000)):
        server = start_server("--read-root", tmp_path, "--write-root", tmp_path, "--threads", "2")
        remote = CommandLine("--quiet", "--endpoint", server.endpoint)
        remote("compress", model, tmp_path / name, "--detection", "off", "--max-memory", str(allowed))
        print(f"{name}: {peak_beside_files(server) / 1e6:.0f} of {allowed / 1e6:.0f} MB")
        assert peak_beside_files(server) <= allowed, name
        assert server.stop() == 0
    # Slabs and threads change nothing in what comes out.
    linchpin("compress", model, tmp_path / "free", "--detection", "off")
    for path in (tmp_path / "free").iterdir():
        assert path.read_bytes() == (tmp_path / "least" / path.name).read_bytes(), path.name
