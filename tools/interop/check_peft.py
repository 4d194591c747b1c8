#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PEFT loads our adapter on the untouched base and gives our logits.

    check_peft.py BASE ADAPTER IDS LOGITS.npy [TOLERANCE]

BASE: Hugging Face directory.  ADAPTER: directory written by `milora` (or OUT/adapter of the residual
export, with OUT as BASE).  IDS: file of token ids separated by spaces.  LOGITS.npy: float32 [T, vocab],
from `milora logits BASE --adapter ADAPTER --dtype f32 --ids ... --out LOGITS.npy`.  Fails when the
largest difference exceeds TOLERANCE (1e-3), or when the adapter changes nothing although it has been
trained.  Needs torch, transformers, peft.
"""
import sys

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def main():
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    base_path, adapter, ids_path, want_path = sys.argv[1:5]
    tolerance = float(sys.argv[5]) if len(sys.argv) == 6 else 1e-3
    ids = [int(x) for x in open(ids_path).read().split()]
    want = np.load(want_path)
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32).eval()
    plain = logits_of(base, ids)
    model = PeftModel.from_pretrained(base, adapter).eval()
    have = logits_of(model, ids)
    worst = np.abs(have - want).max()
    moved = np.abs(have - plain).max()
    print(f"PEFT against milora: largest difference {worst:.2e} (limit {tolerance:.0e}); "
          f"the adapter moves logits by up to {moved:.2e}")
    merged = logits_of(model.merge_and_unload(), ids)
    print(f"PEFT's merge against milora: {np.abs(merged - want).max():.2e}")
    sys.exit(0 if worst <= tolerance and np.abs(merged - want).max() <= tolerance else 1)


main()
