#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time torch.linalg.svd on one matrix, as PEFT's pissa_init and MiLoRA's code call it.

usage: svd_torch.py [--threads N] W.npy
Prints {"torch": version, "threads": n, "seconds": best, "all": [...], "sigma_max": s, "sigma_min": s}.
"""
import argparse
import json
import time

import numpy as np
import torch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("matrix")
args = parser.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
w = torch.from_numpy(np.load(args.matrix)).to(torch.float32)
torch.linalg.svd(w[:64, :64], full_matrices=False)  # starts the threads
seconds = []
while sum(seconds) < 1 and len(seconds) < 5:
    start = time.perf_counter()
    u, s, v = torch.linalg.svd(w, full_matrices=False)
    seconds.append(time.perf_counter() - start)
print(json.dumps({
    "torch": torch.__version__, "threads": torch.get_num_threads(), "seconds": min(seconds),
    "all": seconds, "sigma_max": float(s[0]), "sigma_min": float(s[-1])}))
