#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adapters as PEFT writes them, and what PEFT computes with them: what our loader must read.

    record_methods_peft.py OUT_DIR          (tests/adapt/data; needs torch, transformers, peft 0.21)

Reads OUT_DIR/base (record_adapters.py), writes OUT_DIR/base-qwen2 (untied head, biases on q, k, v)
and for each case OUT_DIR/NAME/{adapter_config.json, adapter_model.safetensors} and
OUT_DIR/NAME.merged.safetensors: `ids`, PEFT's `logits` in f64 with the adapter attached (stored as
f32), and under its Hugging Face name each tensor of the merged model that differs from the base's
(PEFT's merge in f64, rounded once).  Cases on the tiny LLaMA (tied head):

    peft-dora           use_dora with use_rslora, a rank_pattern; magnitudes moved off the norms
    peft-dora-rank-alpha  use_dora, alpha_pattern and rank_pattern, every linear
    peft-adalora        8 trained steps of 12, ranks masked: adapter_config's rank_pattern is masks
    peft-adalora-zero   a rank_pattern that leaves one module nothing
    peft-adalora-full   before any masking: no rank_pattern
    peft-mica           trained A over frozen minor left vectors
    peft-rslora         plain rsLoRA
    peft-embed-tied     modules_to_save embed_tokens on a tied head: PEFT unties, the head stays W
    peft-embed-both     the same with ensure_weight_tying: head and embedding move together

and on the Qwen2:

    peft-qwen2-selected   rank_pattern, alpha_pattern, exclude_modules, layers_to_transform, layers_pattern
    peft-qwen2-regex      target_modules and exclude_modules as regular expressions
    peft-qwen2-saved      modules_to_save embed_tokens, lm_head
    peft-qwen2-norm       modules_to_save of a norm (nothing else can express it)
    peft-qwen2-bias-all   bias="all", biases moved
    peft-qwen2-bias-lora  bias="lora_only"
    peft-qwen2-lora-bias  lora_bias=True: a bias of its own on B
    peft-qwen2-dora       use_dora over biases (added after the magnitude)
"""
import json
import os
import shutil
import sys
import warnings

import numpy as np
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

IDS = torch.tensor([[1, 5, 9, 3, 17, 30, 2, 11]])
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_qwen2(path):
    torch.manual_seed(11)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(1 + 0.2 * torch.randn(p.shape) if "norm" in name else 0.3 * torch.randn(p.shape))
    shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(path)


def lora(**options):
    return LoraConfig(**{"r": 3, "lora_alpha": 6, "init_lora_weights": False,
                         "task_type": "CAUSAL_LM", **options})


def adalora(**options):
    return AdaLoraConfig(**{"init_r": 4, "target_r": 2, "tinit": 1, "tfinal": 2, "deltaT": 1,
                            "beta1": 0.85, "beta2": 0.85, "lora_alpha": 8, "total_step": 12,
                            "orth_reg_weight": 0.5, "task_type": "CAUSAL_LM",
                            "target_modules": ["q_proj", "v_proj", "down_proj"], **options})


def cases():
    """name, base, configuration, what moves the adapter off its start."""
    qv = ["q_proj", "v_proj"]
    yield "peft-dora", "base", lora(
        target_modules=["q_proj", "v_proj", "down_proj"], use_dora=True, use_rslora=True,
        rank_pattern={"v_proj": 2}), scatter
    yield "peft-dora-rank-alpha", "base", lora(
        target_modules="all-linear", use_dora=True, rank_pattern={"up_proj": 2},
        alpha_pattern={"layers.1.self_attn.q_proj": 2}), scatter
    yield "peft-adalora", "base", adalora(), lambda m: train_adalora(m, 8)
    yield "peft-adalora-zero", "base", adalora(), empty_one
    yield "peft-adalora-full", "base", adalora(init_r=3), lambda m: train_adalora(m, 1)
    yield "peft-mica", "base", lora(target_modules=qv, init_lora_weights="mica"), scatter
    yield "peft-rslora", "base", lora(target_modules=["o_proj", "gate_proj"], use_rslora=True), None
    yield "peft-embed-tied", "base", lora(target_modules=qv, modules_to_save=["embed_tokens"]), scatter
    yield "peft-embed-both", "base", lora(
        target_modules=qv, modules_to_save=["embed_tokens"], ensure_weight_tying=True), scatter
    yield "peft-qwen2-selected", "base-qwen2", lora(
        target_modules=qv + ["up_proj", "down_proj"], exclude_modules=["mlp.down_proj"],
        layers_to_transform=[0, 2], layers_pattern="layers",
        rank_pattern={"layers.2.self_attn.q_proj": 4, "v_proj": 2}, alpha_pattern={"up_proj": 5}), None
    yield "peft-qwen2-regex", "base-qwen2", lora(
        target_modules=r"model\.layers\.[01]\.(self_attn\.[qkvo]_proj|mlp\.gate_proj)",
        exclude_modules=r".*\.1\..*k_proj"), None
    yield "peft-qwen2-saved", "base-qwen2", lora(
        target_modules=qv, modules_to_save=["embed_tokens", "lm_head"]), scatter
    yield "peft-qwen2-norm", "base-qwen2", lora(
        target_modules=qv, modules_to_save=["input_layernorm"]), scatter
    yield "peft-qwen2-bias-all", "base-qwen2", lora(
        target_modules=["q_proj", "up_proj"], bias="all"), scatter
    yield "peft-qwen2-bias-lora", "base-qwen2", lora(
        target_modules=["q_proj", "up_proj"], bias="lora_only"), scatter
    yield "peft-qwen2-lora-bias", "base-qwen2", lora(
        target_modules=["q_proj", "k_proj"], lora_bias=True), scatter
    yield "peft-qwen2-dora", "base-qwen2", lora(
        target_modules=["q_proj", "v_proj", "up_proj"], use_dora=True), scatter


def scatter(model):
    """Every trainable tensor moves by a tenth: magnitudes, biases and copies leave their starts."""
    with torch.no_grad():
        for _, p in model.named_parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape))


def train_adalora(model, steps):
    """PEFT's own order: backward, step, update_and_allocate, zero_grad."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.1)
    for step in range(1, steps + 1):
        ids = torch.randint(3, 40, (2, 12))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()


def empty_one(model):
    """By hand: a mask without an entry, one with all, one with a gap."""
    train_adalora(model, 1)
    pattern = {}
    for i, (name, p) in enumerate((n, p) for n, p in model.base_model.model.named_parameters()
                                  if ".lora_E." in n):
        pattern[name] = ([False] * 4, [True] * 4, [True, False, False, True])[i % 3]
    model.peft_config["default"].rank_pattern = pattern
    model.base_model.rankallocator.mask_using_rank_pattern(model.base_model.model, pattern)


def record(folder, number, name, base, config, move):
    path, out = os.path.join(folder, base), os.path.join(folder, name)
    shutil.rmtree(out, ignore_errors=True)
    load = lambda: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    torch.manual_seed(100 + number)
    model = get_peft_model(load(), config)
    if move:
        model.train()
        move(model)
    model.eval()
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(out)
    os.remove(os.path.join(out, "README.md"))

    # What counts is what PEFT makes of the files.
    plain = load().double()
    model = PeftModel.from_pretrained(load(), out).double().eval()
    with torch.no_grad():
        logits = model(IDS).logits[0]
        moved = (logits - plain(IDS).logits[0]).abs().max().item()
        merged = model.merge_and_unload()
        again = (merged(IDS).logits[0] - logits).abs().max().item()
    old = plain.state_dict()
    result = {k: v.float().numpy() for k, v in merged.state_dict().items()
              if not torch.equal(v, old[k])}
    result["logits"] = logits.float().numpy()
    result["ids"] = IDS[0].numpy().astype(np.int32)
    save_file({k: np.ascontiguousarray(v) for k, v in result.items()},
              os.path.join(folder, name + ".merged.safetensors"))
    with open(os.path.join(out, "adapter_config.json")) as f:
        saved = json.load(f)
    for key in ("target_modules", "exclude_modules", "modules_to_save"):  # sets: in any order
        if isinstance(saved[key], list):
            saved[key].sort()
    with open(os.path.join(out, "adapter_config.json"), "w") as f:
        json.dump(saved, f, indent=2)
        f.write("\n")
    print(f"{name}: {len(result) - 2} tensors differ, logits move by {moved:.2g}, "
          f"merged against attached {again:.1e}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.filterwarnings("ignore")
    make_qwen2(os.path.join(sys.argv[1], "base-qwen2"))
    for number, case in enumerate(cases()):
        record(sys.argv[1], number, *case)


main()
