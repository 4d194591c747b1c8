#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""transformers loads our merged model and gives our logits.

    check_merged.py MERGED IDS LOGITS.npy [TOLERANCE]

MERGED: directory written by `milora merge`.  IDS: file of token ids separated by spaces.  LOGITS.npy:
float32 [T, vocab], of the merged model or of base + adapter.  Fails when a weight is missing or
unexpected, or the largest difference exceeds TOLERANCE (1e-3; rounding to 16 bits needs more).
Needs torch, transformers.
"""
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    ids = [int(x) for x in open(sys.argv[2]).read().split()]
    want = np.load(sys.argv[3])
    tolerance = float(sys.argv[4]) if len(sys.argv) == 5 else 1e-3
    model, info = AutoModelForCausalLM.from_pretrained(
        sys.argv[1], dtype=torch.float32, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[key]:
            sys.exit(f"{key}: {info[key]}")
    with torch.no_grad():
        have = model.eval()(torch.tensor([ids])).logits[0].numpy()
    worst = np.abs(have - want).max()
    print(f"transformers against milora: largest difference {worst:.2e} (limit {tolerance:.0e})")
    sys.exit(0 if worst <= tolerance else 1)


main()
