# SPDX-License-Identifier: Apache-2.0
"""Which modules, ranks and alphas PEFT makes of a configuration: tests/adapt/data/selection.json.

    record_selection.py tests/adapt/data/selection.json

Asks PEFT itself (get_peft_model on a LLaMA of 12 layers, so that layer 1 is a prefix of layers 10 and 11), for a
table of target_modules, exclude_modules, layers_to_transform, layers_pattern, rank_pattern and alpha_pattern.  A
module of the result is "path": [rank, alpha, scaling]; where PEFT refuses, "error" holds the exception's name.
"""

import json
import re
import sys
import warnings

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from transformers import LlamaConfig, LlamaForCausalLM

LAYERS = 12
QV = ["q_proj", "v_proj"]
CASES = [
    dict(target_modules=QV),
    dict(target_modules=["self_attn.q_proj"]),
    dict(target_modules=["model.layers.1.self_attn.q_proj"]),
    dict(target_modules=["layers.1.mlp.up_proj", "11.mlp.up_proj"]),
    dict(target_modules=["1.mlp.up_proj"]),
    dict(target_modules=["q_proj", "model.layers.0.mlp.gate_proj"]),
    dict(target_modules=["up_proj", "down_proj", "gate_proj", "o_proj"]),
    dict(target_modules="all-linear"),
    dict(target_modules=r".*\.(q|v)_proj"),
    dict(target_modules=r".*layers\.1\..*_proj"),
    dict(target_modules=r"model\.layers\.(0|1[01])\.self_attn\.[qkvo]_proj"),
    dict(target_modules=r".*\.self_attn\..*|.*\.0\.mlp\.up_proj"),
    dict(target_modules=r"(?i).*\.Q_PROJ"),
    dict(target_modules=r".*\.(?!q|k|v|o)\w+_proj"),
    dict(target_modules=r"model\.layers\.\d\.mlp\.\w{7}"),
    dict(target_modules="q_proj"),
    dict(target_modules=["qproj"]),
    dict(target_modules=["_proj"]),
    dict(target_modules=QV, layers_to_transform=1),
    dict(target_modules=QV, layers_to_transform=[0, 11]),
    dict(target_modules=QV, layers_to_transform=[3, 3, 1], layers_pattern="layers"),
    dict(target_modules=["model.layers.2.self_attn.q_proj", "v_proj"], layers_to_transform=[1]),
    dict(target_modules=["layers.2.self_attn.q_proj", "v_proj"], layers_to_transform=[1, 2]),
    dict(target_modules=QV, layers_to_transform=[]),
    dict(target_modules=r".*q_proj", layers_to_transform=[1]),
    dict(target_modules=["q_proj", "k_proj", "v_proj"], exclude_modules=["k_proj"]),
    dict(target_modules=["q_proj", "v_proj"], exclude_modules=["layers.1.self_attn.q_proj"]),
    dict(target_modules="all-linear", exclude_modules=["mlp.up_proj", "o_proj"]),
    dict(target_modules=QV, exclude_modules=r".*layers\.1\..*"),
    dict(target_modules=QV, exclude_modules=r".*\.(1|2)\..*", layers_to_transform=[0, 1, 2, 3]),
    dict(target_modules=QV, exclude_modules=QV),
    dict(target_modules=QV, rank_pattern={"q_proj": 2}),
    dict(target_modules=QV, rank_pattern={"self_attn.q_proj": 2, "q_proj": 3}),
    dict(target_modules=QV, rank_pattern={"q_proj": 3, "self_attn.q_proj": 2}),
    dict(target_modules=QV, rank_pattern={"layers.1.self_attn.q_proj": 2}),
    dict(target_modules=QV, rank_pattern={"1.self_attn.q_proj": 2}),
    dict(target_modules=QV, rank_pattern={r"model.layers.\d.self_attn.q_proj": 2, r".*v_proj": 5}),
    dict(target_modules=QV, rank_pattern={r"^model\.layers\.1\..*": 2}),
    dict(target_modules=QV, rank_pattern={r".*\.1[01]\..*": 2, r"(q|v)_proj": 3}),
    dict(target_modules=QV, rank_pattern={"q_proj|v_proj": 6}),
    dict(target_modules=QV, rank_pattern={r"layers\.0\.self_attn\.(q|v)_proj": 7, "q_proj": 5}),
    dict(target_modules=["q_proj", "k_proj"], rank_pattern={"k_proj": 2}, alpha_pattern={"q_proj": 5}),
    dict(target_modules=["q_proj", "k_proj"], rank_pattern={"k_proj": 4}, alpha_pattern={"k_proj": 4.5},
         use_rslora=True),
    dict(target_modules=QV, alpha_pattern={r".*\.(2|3)\.self_attn.q_proj": 1, "q_proj": 9, "v_proj": 2}),
    dict(target_modules="all-linear", rank_pattern={"mlp.*": 3, "down_proj": 1, "o_proj": 2},
         alpha_pattern={"down_proj": 3}),
]
# Keys that match nothing: PEFT is silent, the program is not.
SILENT = [
    dict(target_modules=QV, rank_pattern={"q_pro": 2}),
    dict(target_modules=QV, rank_pattern={"k_proj": 2}),
    dict(target_modules=QV, alpha_pattern={"self_attn": 2}),
    dict(target_modules=["q_proj", "qproj"]),
    dict(target_modules=QV, layers_to_transform=[0, 12]),
    dict(target_modules=QV, exclude_modules=["kproj"]),
]


def modules_of(case):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=6, **case))
    found = {}
    for name, module in peft.base_model.model.named_modules():
        if isinstance(module, LoraLayer):
            found[name] = [module.r["default"], module.lora_alpha["default"], module.scaling["default"]]
    return found


def record(case):
    try:
        found = modules_of(dict(case))
    except Exception as e:
        return {"config": case, "error": type(e).__name__}
    return {"config": case, "modules": found}


def main():
    out = {"layers": LAYERS, "r": 4, "lora_alpha": 6, "cases": [record(c) for c in CASES],
           "silent": [record(c) for c in SILENT]}
    text = json.dumps(out, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + " ".join(m.group(1).split()) + "]", text)
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(text + "\n")
    for c in out["cases"] + out["silent"]:
        print(c.get("error") or len(c["modules"]), c["config"])


main()
