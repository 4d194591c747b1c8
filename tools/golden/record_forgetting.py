#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Forgetting loss and base entropy by PyTorch and PEFT, in f64, from the definition.

    record_forgetting.py BASE_DIR ADAPTER_DIR... OUT.json

BASE_DIR: a small model in f32; ADAPTER_DIR: adapters of it in PEFT's format.  Written: `ids` (a fixed walk through the
vocabulary), and per adapter (the directory's name) and window: the number of tokens, the mean cross-entropy of the
adapted model's next-token distributions with the base's (`forgetting_loss`), the base's own (`base_entropy`), the
largest logit by size and the smallest log-probability of the adapted model, from which a bound is made.
"""
import json
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

# (window, first tokens)
CASES = ((1, 9), (7, 40), (16, 64), (24, 150), (64, 1000))
TOKENS = 200


def load(base):
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).double().eval()


def logits(model, ids, window):
    with torch.no_grad():
        return torch.cat([model(ids[None, at:at + window]).logits[0] for at in range(0, len(ids), window)])


def main(base_dir, adapter_dirs, out):
    base = load(base_dir)
    vocab = base.config.vocab_size
    ids = torch.tensor([(i * i * 31 + i * 7 + 3) % vocab for i in range(TOKENS)])
    adapters = {}
    for path in adapter_dirs:
        adapted = PeftModel.from_pretrained(load(base_dir), path).double().eval()
        rows = []
        for window, most in CASES:
            part = ids[:most]
            zb, zf = logits(base, part, window), logits(adapted, part, window)
            lp, lq = zb.log_softmax(-1), zf.log_softmax(-1)
            p = lp.exp()
            rows.append({
                "window": window,
                "max_tokens": most,
                "tokens": len(part),
                "forgetting_loss": -(p * lq).sum(-1).mean().item(),
                "base_entropy": -(p * lp).sum(-1).mean().item(),
                "largest_logit": max(zb.abs().max(), zf.abs().max()).item(),
                "lowest_log": min(lp.min(), lq.min()).item(),
            })
        adapters[os.path.basename(os.path.normpath(path))] = rows
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"ids": ids.tolist(), "adapters": adapters}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:-1], sys.argv[-1])
