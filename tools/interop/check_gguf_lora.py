#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""llama.cpp loads our GGUF LoRA and gives our logits.

    check_gguf_lora.py MODEL.gguf LORA.gguf IDS LOGITS.npy [MEAN_KL]

LOGITS.npy: float32 [T, vocab] of `milora logits MODEL.gguf --adapter ADAPTER --ids ... --out ...`.
Fails when the mean Kullback-Leibler divergence of llama.cpp's next-token distribution from ours
exceeds MEAN_KL (1e-2: llama.cpp computes quantised weights with 8-bit activations), or when it does
not come at least 4 times nearer to ours than llama.cpp without the adapter.  Needs llama-cpp-python.
"""
import sys

import numpy as np
from llama_cpp import Llama


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def logits_of(model, lora, ids):
    llama = Llama(model_path=model, lora_path=lora, logits_all=True, n_ctx=max(64, len(ids)),
                  n_threads=2, verbose=False)
    llama.eval(ids)
    return np.array(llama.scores[:len(ids)])


def main():
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    model, lora, ids_path, want_path = sys.argv[1:5]
    limit = float(sys.argv[5]) if len(sys.argv) == 6 else 1e-2
    ids = [int(x) for x in open(ids_path).read().split()]
    want = log_softmax(np.load(want_path))

    def divergence(logits):
        have = log_softmax(logits)
        return float((np.exp(want) * (want - have)).sum(axis=-1).mean())

    with_lora, without = divergence(logits_of(model, lora, ids)), divergence(logits_of(model, None, ids))
    print(f"llama.cpp against milora: mean KL {with_lora:.2e} with the adapter (limit {limit:.0e}), "
          f"{without:.2e} without")
    sys.exit(0 if with_lora <= limit and with_lora * 4 <= without else 1)


main()
