#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Generation with llama.cpp through llama-cpp-python, one prompt, from a GGUF file as it is.

    llama_cpp.py --model FILE.gguf --prompt TOKENS --new TOKENS --threads N

One JSON line like hf_generate.py's; without the package {"skipped": why}."""
import argparse
import json
import os
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    # This file's name is the package's: look elsewhere first.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != here]
    try:
        from llama_cpp import Llama
    except ImportError as why:
        print(json.dumps({"skipped": f"llama-cpp-python is not installed ({why})"}))
        return
    model = Llama(
        args.model, n_ctx=args.prompt + args.new + 8, n_threads=args.threads, n_threads_batch=args.threads, verbose=False
    )
    prompt = [(i * 7919) % (model.n_vocab() - 100) + 50 for i in range(args.prompt)]
    model.eval(prompt)
    model.reset()
    begun = time.perf_counter()
    model.eval(prompt)
    first = time.perf_counter()
    for _ in range(args.new):
        model.eval([model.sample(temp=0.0)])
    end = time.perf_counter()
    print(json.dumps({"prefill": args.prompt / (first - begun), "decode": args.new / (end - first)}))


if __name__ == "__main__":
    main()
