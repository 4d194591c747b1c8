#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""transformers' f32 logits of SmolLM2-135M-Instruct on pieces of a text.

    record_logits.py MODEL_DIR TEXT OUT.safetensors

MODEL_DIR: the model as a Hugging Face directory in f32; TEXT: any text file (WikiText-103's test
split was used).  Written: `lengths` of the pieces, their `ids` back to back; for every position
`lse` (log sum exp of the logits), `next` (the logit of the next token; 0 at a piece's end) and
`sampled` (8 columns; column j of position t, counted over all pieces, is
(7919 t + 104729 j + 12345) mod V); and `full`, the whole rows of `full_rows`.
"""
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

# (first character, tokens): from the longest that the test promises to a few tokens.
PIECES = ((0, 1500), (200000, 300), (400000, 64), (600000, 7), (800000, 1))
SAMPLED = 8


def main(model_dir, text_path, out):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    text = open(text_path, encoding="utf-8").read()
    vocab, at = model.config.vocab_size, 0
    parts = {name: [] for name in ("ids", "lse", "next", "sampled")}
    full, full_rows = [], []
    for start, n in PIECES:
        ids = torch.tensor(tokenizer(text[start:start + 12 * n + 40]).input_ids[:n])
        assert len(ids) == n
        with torch.no_grad():
            z = model(ids[None]).logits[0]
        t = torch.arange(at, at + n)[:, None]
        columns = (7919 * t + 104729 * torch.arange(SAMPLED)[None] + 12345) % vocab
        follow = torch.zeros(n)
        follow[:-1] = z[:-1].gather(1, ids[1:, None])[:, 0]
        for name, value in (("ids", ids.int()), ("lse", z.logsumexp(-1)), ("next", follow),
                            ("sampled", z.gather(1, columns))):
            parts[name].append(value)
        if n in (1500, 7):
            full.append(z[-1])
            full_rows.append(at + n - 1)
        at += n
    save = {name: torch.cat(values) for name, values in parts.items()}
    save["lengths"] = torch.tensor([n for _, n in PIECES]).int()
    save["full"] = torch.stack(full)
    save["full_rows"] = torch.tensor(full_rows).int()
    save_file(save, out)


if __name__ == "__main__":
    main(*sys.argv[1:4])
