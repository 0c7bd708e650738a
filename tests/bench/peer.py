#!/usr/bin/env python3
"""Compresses a checkpoint with llm-compressor's model_free_ptq: the same scheme, the same ignore.

    peer.py SOURCE OUT      prints the seconds of the call alone, without imports
"""

import sys
import time

from llmcompressor import model_free_ptq

begin = time.monotonic()
model_free_ptq(sys.argv[1], sys.argv[2], scheme="W4A16", ignore=["lm_head"], device="cpu",
               max_workers=2)
print(f"model_free_ptq alone: {time.monotonic() - begin:.2f} s")
