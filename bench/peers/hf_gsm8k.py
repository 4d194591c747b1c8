#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GSM8K's questions answered by transformers, as an evaluation script does it: batches padded on the left, greedy, answers
ended by the protocol's stop strings (src/eval/tasks/metamath.h) so that both programs write the same answers.

    hf_gsm8k.py --model DIR --data test.jsonl --rows N --batch N --new TOKENS --dtype bf16|f32 --threads N

Rows come in the file's order; a batch runs until its last answer ends or has NEW tokens.  The model is loaded, and the stop
strings are prepared by a batch of two tokens, before the clock starts.  One JSON line: rows, tokens up to each answer's end, seconds."""
import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response: Let's think step by step."
)
STOP = ["Instruction:", "Instruction", "Response:", "Response"]


def answer(model, tokenizer, questions, new):
    """How many tokens the answers have, their end tokens not counted."""
    inputs = tokenizer([PROMPT.format(q) for q in questions], return_tensors="pt", padding=True)
    out = model.generate(
        **inputs,
        max_new_tokens=new,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        stop_strings=STOP,
        tokenizer=tokenizer,
    )
    written = out[:, inputs["input_ids"].shape[1] :]
    ends = ((written == tokenizer.eos_token_id) | (written == tokenizer.pad_token_id)).long()
    return int((ends.cumsum(1) == 0).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--new", type=int, default=256)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).eval()
    with open(args.data, encoding="utf-8") as f:
        questions = [json.loads(line)["question"] for line in f][: args.rows]
    with torch.inference_mode():
        answer(model, tokenizer, questions[: args.batch], 2)
        tokens, begun = 0, time.perf_counter()
        for i in range(0, len(questions), args.batch):
            tokens += answer(model, tokenizer, questions[i : i + args.batch], args.new)
    print(json.dumps({"rows": len(questions), "tokens": tokens, "seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()
