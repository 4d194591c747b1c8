#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the demonstration's byte-level BPE (512 pieces) with the `tokenizers` library.

usage: train_tokenizer.py PRETRAIN.jsonl OUTDIR      writes tokenizer.json and tokenizer_config.json
"""
import json
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

source, out = sys.argv[1:]
stories = [json.loads(line)["text"] for line in open(source, encoding="utf-8")]
end = "<|endoftext|>"
tok = Tokenizer(models.BPE())
tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
tok.decoder = decoders.ByteLevel()
tok.train_from_iterator(stories, trainers.BpeTrainer(
    vocab_size=512, special_tokens=[end], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
tok.save(out + "/tokenizer.json")
json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": end,
           "model_max_length": 512}, open(out + "/tokenizer_config.json", "w"), indent=2)
