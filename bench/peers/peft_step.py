#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Optimiser steps of PEFT with PyTorch, as a user runs them: a forward and backward pass per micro-batch, clipping, AdamW.

    peft_step.py --model DIR --data FILE --kind gsm8k|blocks --method lora|full --dtype bf16|f32 --steps N --threads N

gsm8k: rows {"question", "answer"} in Alpaca's prompt, the prompt masked; 16 rows a step as 4 micro-batches of 4, each padded
to its longest.  blocks: rows {"text"}, each cut at --seq tokens, all of them supervised; --batch rows a step in one piece.
bf16 is autocast over f32 weights.  One JSON line: seconds of each step, examples and tokens (padding not counted) of a step.
--until-first: end after the first step."""
import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:"
)
TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]


def gsm8k_rows(tokenizer, path, limit):
    rows = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            if len(rows) == limit:
                break
            row = json.loads(line)
            prompt = tokenizer(ALPACA.format(row["question"]))["input_ids"]
            answer = tokenizer(row["answer"])["input_ids"] + [tokenizer.eos_token_id]
            rows.append((prompt + answer, [-100] * len(prompt) + answer))
    return rows


def block_rows(tokenizer, path, limit, seq):
    rows = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            if len(rows) == limit:
                break
            ids = tokenizer(json.loads(line)["text"])["input_ids"][:seq]
            rows.append((ids, ids))
    return rows


def padded(rows, pad):
    longest = max(len(ids) for ids, _ in rows)
    fill = lambda values, value: values + [value] * (longest - len(values))
    return {
        "input_ids": torch.tensor([fill(ids, pad) for ids, _ in rows]),
        "labels": torch.tensor([fill(labels, -100) for _, labels in rows]),
        "attention_mask": torch.tensor([fill([1] * len(ids), 0) for ids, _ in rows]),
    }


def open_model(args):
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    if args.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model, LoraConfig(r=args.rank, lora_alpha=args.rank, lora_dropout=0.05, target_modules=TARGETS)
    )


def one_step(model, optimizer, parts, pad, autocast):
    for part in parts:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(**padded(part, pad)).loss / len(parts)
        loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--kind", choices=["gsm8k", "blocks"], default="gsm8k")
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rows", type=int, default=-1, help="rows to tokenise; default: those of the steps")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--until-first", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    limit = args.rows if args.rows > 0 else args.batch * args.steps
    rows = (
        gsm8k_rows(tokenizer, args.data, limit)
        if args.kind == "gsm8k"
        else block_rows(tokenizer, args.data, limit, args.seq)
    )
    if len(rows) < args.batch * args.steps:
        raise SystemExit(f"{args.data}: {len(rows)} rows, the steps take {args.batch * args.steps}")
    model = open_model(args)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    seconds, tokens = [], []
    for step in range(args.steps):
        chosen = rows[step * args.batch : (step + 1) * args.batch]
        parts = [chosen[i : i + args.micro] for i in range(0, len(chosen), args.micro)]
        begun = time.perf_counter()
        loss = one_step(model, optimizer, parts, pad, args.dtype == "bf16")
        seconds.append(time.perf_counter() - begun)
        tokens.append(sum(len(ids) for ids, _ in chosen))
        print(f"step {step + 1} loss {loss:.4f} {seconds[-1]:.2f} s", flush=True)
        if args.until_first:
            break
    print(json.dumps({"seconds": seconds, "tokens": tokens, "examples": args.batch}))


if __name__ == "__main__":
    main()
