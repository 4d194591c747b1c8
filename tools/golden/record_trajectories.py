#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loss trajectories of adapter training by PyTorch, in the papers' residual form.

    record_trajectories.py tiny OUT_DIR              makes OUT_DIR/{tiny/, rows.jsonl, tiny.json}
    record_trajectories.py model HF_DIR ROWS OUT.json       a real model on the same rows
    record_trajectories.py schedules OUT.json               learning rates of transformers' schedules

Needs torch, transformers, tokenizers.  The adapted weight is split once, W_res = W - s B0 A0, and
y = W_res x + s B A x is trained: 6 AdamW steps of 8 rows, in file order, constant learning rate,
clipping at 1, no dropout; the loss is the mean over the supervised tokens of the 8 rows.  All in
float64 (norms stay in float32, as transformers has them): in float32 PyTorch itself is 6e-6 from that in
the loss of SmolLM2, which Adam makes 1e-4 in six steps.  tiny.json also has
full fine-tuning, and runs with weight decay (not on norms), harder clipping and a cosine schedule.

Start: singular triplets of numpy in float64, the largest entry of each left vector positive; for
lora B = 0 and A[i, j] = (2 h / 2^32 - 1) / sqrt(n), h = (i n + j + 1009 module) 2654435761 mod 2^32,
module = layer * 7 + index in q, k, v, o, gate, up, down.
"""
import json
import os
import random
import sys

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers import get_scheduler

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
STEPS, BATCH = 6, 8
PLAIN = ("Below is an instruction that describes a task. Write a response that appropriately "
         "completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n")
PAIRED = ("Below is an instruction that describes a task, paired with an input that provides further "
          "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
          "{instruction}\n\n### Input:\n{input}\n\n### Response:\n")


def make_rows(n):
    """Small tasks in Alpaca's format, a third of them with an input."""
    rng = random.Random(7)
    names = ["Ada", "Bo", "Chen", "Dora", "Emil", "Fay", "Gus", "Hana"]
    things = ["apples", "pens", "stones", "books", "coins", "cups"]
    rows = []
    for i in range(n):
        a, b = rng.randint(2, 40), rng.randint(2, 40)
        name, thing = rng.choice(names), rng.choice(things)
        if i % 3 == 0:
            rows.append({"instruction": f"{name} has {a} {thing} and finds {b} more. How many are there?",
                         "output": f"{a} + {b} = {a + b}, so {name} has {a + b} {thing}."})
        elif i % 3 == 1:
            words = rng.sample(things, 3)
            rows.append({"instruction": "Sort the words alphabetically.", "input": ", ".join(words),
                         "output": ", ".join(sorted(words))})
        else:
            rows.append({"instruction": f"Say which is larger, {a} or {b}, and by how much.", "input": "",
                         "output": f"They are equal: {a}." if a == b else
                         f"{max(a, b)} is larger than {min(a, b)} by {abs(a - b)}."})
    return rows


def make_tiny(out, rows):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = [PLAIN, PAIRED] + [v for r in rows for v in r.values()]
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    os.makedirs(out, exist_ok=True)
    tokenizer.save(os.path.join(out, "tokenizer.json"))
    with open(os.path.join(out, "tokenizer_config.json"), "w") as f:
        json.dump({"bos_token": "<s>", "eos_token": "</s>",
                   "tokenizer_class": "PreTrainedTokenizerFast"}, f, indent=2)
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=1,
        tie_word_embeddings=True))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(1 + 0.1 * torch.randn(p.shape) if "norm" in name else 0.15 * torch.randn(p.shape))
    model.save_pretrained(out)


def samples(tokenizer, rows):
    """(ids, index of the first supervised token): one tokenisation of prompt + answer; a token
    belongs to the answer when it starts at or after the prompt's end; EOS follows."""
    for row in rows:
        prompt = (PAIRED if row.get("input") else PLAIN).format(**row)
        coded = tokenizer(prompt + row["output"], return_offsets_mapping=True)
        first = next(i for i, (b, _) in enumerate(coded["offset_mapping"]) if b >= len(prompt))
        yield torch.tensor(coded["input_ids"] + [tokenizer.eos_token_id]), first


def triplets(w, r, method):
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    k = len(s)
    at = {"milora": k - r, "pissa": 0, "mid": (k - r) // 2}[method]
    u, s, vt = u[:, at:at + r], s[at:at + r], vt[at:at + r]
    sign = np.sign(u[np.abs(u).argmax(axis=0), np.arange(r)])
    return u * sign * np.sqrt(s), (vt.T * sign * np.sqrt(s)).T


def given_a(r, n, module):
    h = (np.arange(r * n, dtype=np.uint64) + np.uint64(1009 * module)) * np.uint64(2654435761)
    return ((2.0 * (h % np.uint64(2**32)).astype(np.float64) / 2**32 - 1.0) / np.sqrt(n)).reshape(r, n)


class Residual(torch.nn.Module):
    def __init__(self, linear, method, r, module):
        super().__init__()
        w = linear.weight.detach().double().numpy()
        m, n = w.shape
        self.s = 2.0 if method == "lora" else 1.0
        if method == "lora":
            b, a = np.zeros((m, r)), given_a(r, n, module)
        else:
            b, a = triplets(w, r, method)
            w = w - b @ a
        kind = linear.weight.dtype
        self.w = torch.tensor(w, dtype=kind)
        self.a = torch.nn.Parameter(torch.tensor(a, dtype=kind))
        self.b = torch.nn.Parameter(torch.tensor(b, dtype=kind))

    def forward(self, x):
        return x @ self.w.T + self.s * ((x @ self.a.T) @ self.b.T)


def adapt(model, method, r):
    for p in model.parameters():
        p.requires_grad_(False)
    for i, layer in enumerate(model.model.layers):
        for parent in (layer.self_attn, layer.mlp):
            for name, child in list(parent.named_children()):
                if name in TARGETS:
                    setattr(parent, name, Residual(child, method, r, i * 7 + MODULES.index(name)))


def trajectory(load, data, method, r, lr, decay=0.0, clip=1.0, schedule="constant", warmup=0):
    model = load()
    if method != "full":
        adapt(model, method, r)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    params = [p for _, p in named]
    optimizer = torch.optim.AdamW(
        [{"params": [p for n, p in named if "norm" not in n], "weight_decay": decay},
         {"params": [p for n, p in named if "norm" in n], "weight_decay": 0.0}],
        lr=lr, betas=(0.9, 0.999), eps=1e-8)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=STEPS)
    out = {"loss": [], "grad_norm": []}
    for step in range(STEPS):
        batch = data[step * BATCH:(step + 1) * BATCH]
        count = sum(len(ids) - first for ids, first in batch)
        total = 0.0
        optimizer.zero_grad()
        for ids, first in batch:
            logits = model(input_ids=ids[None]).logits[0, first - 1:-1]
            loss = torch.nn.functional.cross_entropy(logits, ids[first:], reduction="sum") / count
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
        scheduler.step()
        out["loss"].append(total)
        out["grad_norm"].append(norm.item())
        print(method, step + 1, total, norm.item(), flush=True)
    return out


def record(path, dtype, rows, r, lr, out, more=False):
    tokenizer = AutoTokenizer.from_pretrained(path)
    data = list(samples(tokenizer, rows))
    golden = {"r": r, "learning_rate": lr, "steps": STEPS, "batch": BATCH,
              "tokens": sum(len(ids) for ids, _ in data),
              "supervised": sum(len(ids) - first for ids, first in data)}
    load = lambda: AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager")
    for method in ("lora", "milora", "pissa", "mid"):
        golden[method] = trajectory(load, data, method, r, lr)
    if more:
        extra = dict(decay=0.1, clip=0.5, schedule="cosine", warmup=2)
        golden["milora_decayed"] = trajectory(load, data, "milora", r, lr, **extra)
        golden["full"] = trajectory(load, data, "full", r, lr / 2)
        golden["full_decayed"] = trajectory(load, data, "full", r, lr / 2, **extra)
    with open(out, "w") as f:
        json.dump(golden, f, indent=2)
        f.write("\n")


def schedules(out):
    """Every step's rate as the optimiser uses it, by transformers' own scheduler objects."""
    golden = []
    for kind in ("linear", "cosine", "constant", "constant_with_warmup"):
        for warmup, total in ((0, 1), (0, 7), (3, 10), (10, 37), (100, 20)):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
            scheduler = get_scheduler(kind, optimizer, num_warmup_steps=warmup,
                                      num_training_steps=total)
            rates = []
            for _ in range(total):
                rates.append(float(optimizer.param_groups[0]["lr"]))
                optimizer.step()
                scheduler.step()
            golden.append({"type": kind, "learning_rate": 3e-4, "warmup": warmup, "total": total,
                           "rates": rates})
    with open(out, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(g) for g in golden) + "\n]\n")


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "tiny":
        out, rows = sys.argv[2], make_rows(STEPS * BATCH)
        with open(os.path.join(out, "rows.jsonl"), "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)
        make_tiny(os.path.join(out, "tiny"), rows)
        record(os.path.join(out, "tiny"), torch.float64, rows, 4, 1e-2, os.path.join(out, "tiny.json"),
               more=True)
    elif len(sys.argv) == 5 and sys.argv[1] == "model":
        with open(sys.argv[3]) as f:
            rows = [json.loads(line) for line in f]
        record(sys.argv[2], torch.float64, rows, 32, 3e-4, sys.argv[4])
    elif len(sys.argv) == 3 and sys.argv[1] == "schedules":
        schedules(sys.argv[2])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
