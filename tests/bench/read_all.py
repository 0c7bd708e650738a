#!/usr/bin/env python3
"""Reads files with pread into buffers that are used again, on some threads: what any reader pays that
looks at every byte (`cat` to /dev/null moves none).

    read_all.py THREADS FILE...     prints the seconds of the loop alone
"""

import os
import sys
import threading
import time

PIECE = 256 << 10

threads, names = int(sys.argv[1]), sys.argv[2:]
pieces = []
for name in names:
    descriptor = os.open(name, os.O_RDONLY)
    pieces += [(descriptor, offset) for offset in range(0, os.fstat(descriptor).st_size, 64 * PIECE)]
queue = iter(pieces)
lock = threading.Lock()


def read():
    buffer = bytearray(PIECE)
    while True:
        with lock:
            piece = next(queue, None)
        if piece is None:
            return
        descriptor, first = piece
        for offset in range(first, first + 64 * PIECE, PIECE):
            os.preadv(descriptor, [buffer], offset)  # without the interpreter's lock


begin = time.monotonic()
workers = [threading.Thread(target=read) for _ in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(f"pread alone, {threads} threads: {time.monotonic() - begin:.2f} s")
