#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Greedy generation by transformers: prompts of one length, so that nothing is padded.

    hf_generate.py --model DIR --data FILE --batch N --prompt TOKENS --new TOKENS --dtype bf16|f32 --threads N

Prompts are cut from the texts of a .jsonl file.  One JSON line: prompt tokens a second until every prompt has its first token,
new tokens a second after that."""
import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def prompts(tokenizer, path, batch, length):
    ids = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            if len(ids) >= batch * length:
                break
            ids += tokenizer(" ".join(str(v) for v in json.loads(line).values()))["input_ids"]
    if len(ids) < batch * length:
        raise SystemExit(f"{path}: {len(ids)} tokens, {batch} prompts of {length} are wanted")
    return torch.tensor(ids[: batch * length]).view(batch, length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).eval()
    ids = prompts(tokenizer, args.data, args.batch, args.prompt)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def seconds(new):
        begun = time.perf_counter()
        model.generate(**inputs, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
        return time.perf_counter() - begun

    with torch.inference_mode():
        seconds(2)
        first = min(seconds(1) for _ in range(2))
        whole = seconds(args.new)
    print(
        json.dumps(
            {"prefill": args.batch * args.prompt / first, "decode": args.batch * (args.new - 1) / (whole - first)}
        )
    )


if __name__ == "__main__":
    main()
