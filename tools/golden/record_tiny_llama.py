#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small random models of every family, with transformers' logits, loss and gradients.

    record_tiny_llama.py OUT_DIR        (tests/model/data; needs torch, transformers, safetensors)

Writes OUT_DIR/<name>/{config.json, model*.safetensors, golden.safetensors}.  golden: two sequences
(`ids`, `lengths`), the number of leading tokens without a label (`masked`), f32 `logits` of both
back to back, `loss` (mean over the supervised tokens of both), and `grad.<weight name>`.  Computed
in float64 (transformers' norms and rotary tables stay in float32).
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM

SMALL = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
             rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, attn_implementation="eager")
LENGTHS, MASKED = (13, 7), 3


def models():
    yield "llama", LlamaForCausalLM(LlamaConfig(
        head_dim=8, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        rope_parameters={"rope_type": "linear", "factor": 2.5, "rope_theta": 500.0}, **SMALL)), {}
    yield "mistral", MistralForCausalLM(MistralConfig(
        head_dim=8, sliding_window=5, tie_word_embeddings=True, **SMALL)), {}
    yield "qwen2", Qwen2ForCausalLM(Qwen2Config(
        tie_word_embeddings=False, **SMALL)), {"max_shard_size": "16KB"}
    # Wavelengths 2 pi 100^(i/4) = 6, 20, 63, 199: one stays, one is interpolated, two are divided.
    yield "llama3", LlamaForCausalLM(LlamaConfig(
        head_dim=8, tie_word_embeddings=True,
        rope_parameters={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 40,
                         "rope_theta": 100.0}, **SMALL)), {}


def randomise(model, generator):
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.2 * noise if "norm" in name else 0.3 * noise)


def older_spelling(path):
    """rope_parameters -> rope_theta + rope_scaling, as files of transformers 4 have it."""
    with open(path) as f:
        config = json.load(f)
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    with open(path, "w") as f:
        json.dump(config, f, indent=2)


def golden(model, generator):
    ids = [torch.randint(3, 40, (n,), generator=generator) for n in LENGTHS]
    model = model.double()
    logits = [model(i[None]).logits[0] for i in ids]
    losses = [torch.nn.functional.cross_entropy(z[MASKED - 1:-1], i[MASKED:], reduction="sum")
              for z, i in zip(logits, ids)]
    loss = sum(losses) / sum(n - MASKED for n in LENGTHS)
    loss.backward()
    out = {"ids": torch.cat(ids).int(), "lengths": torch.tensor(LENGTHS).int(),
           "masked": torch.tensor([MASKED]).int(),
           "logits": torch.cat(logits).detach().float(), "loss": loss.detach()[None].double()}
    for name, p in model.named_parameters():
        out["grad." + name] = p.grad.float().contiguous()
    return out


def main(out_dir):
    for number, (name, model, options) in enumerate(models()):
        generator = torch.Generator().manual_seed(number)
        path = os.path.join(out_dir, name)
        randomise(model, generator)
        model.save_pretrained(path, **options)
        if name == "llama":
            older_spelling(os.path.join(path, "config.json"))
        save_file(golden(model, generator), os.path.join(path, "golden.safetensors"))
        print(path, sum(p.numel() for p in model.parameters()), "parameters")


if __name__ == "__main__":
    main(sys.argv[1])
