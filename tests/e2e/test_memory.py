"""Weights are never kept: what a detection takes at its peak grows with the layers by their trace alone, the
prompt's residual stream in three forms."""

import os
import subprocess

from support.sparse_model import write_sparse_model


def peak_of(command):
    """Resident bytes at the peak of a command, or of a process that it started and waited for."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
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
    assert total > 500e6  # what it would grow by if weights stayed
    trace = 38 * 3 * 16 * 512 * 4  # 16 tokens
    assert peaks[40] - peaks[2] < trace + 20e6, peaks
