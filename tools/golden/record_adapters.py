#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record what SciPy, PyTorch and PEFT say about decompositions and adapters.

    record_adapters.py TESTS_DIR

writes linalg/data/svd.safetensors, adapt/data/factors.safetensors, adapt/data/base (a tiny random
model), adapt/data/peft-* (adapters written by PEFT for it) and adapt/data/peft-*.merged.safetensors
(what PEFT merges them to).  Needs numpy, scipy, torch, transformers, peft, safetensors.
"""
import json
import os
import shutil
import sys

import numpy as np
import scipy.linalg
import torch
from safetensors.numpy import save_file


def canonical(u, vt):
    """Largest-magnitude entry of each left vector positive."""
    for t in range(u.shape[1]):
        if u[np.argmax(np.abs(u[:, t])), t] < 0:
            u[:, t] *= -1
            vt[t] *= -1
    return np.ascontiguousarray(u), np.ascontiguousarray(vt)


def record_svd(path):
    rng = np.random.default_rng(1)
    q1 = np.linalg.qr(rng.standard_normal((32, 32)))[0]
    q2 = np.linalg.qr(rng.standard_normal((32, 32)))[0]
    cases = {
        "tall": rng.standard_normal((40, 24)),
        "wide": rng.standard_normal((24, 40)),
        "decay": q1 @ np.diag(0.8 ** np.arange(32)) @ q2,
    }
    out = {}
    for name, w in cases.items():
        u, s, vt = scipy.linalg.svd(w, full_matrices=False, lapack_driver="gesvd")
        u, vt = canonical(u, vt)
        out |= {f"{name}.w": w, f"{name}.u": u, f"{name}.s": s, f"{name}.vt": vt}
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path)


# ---- Philox 4x32-10, written from the paper, for the seeded methods


def philox(counter, key):
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def words(seed, stream, step, element):
    return philox((element & 0xFFFFFFFF, element >> 32, step, stream), (seed & 0xFFFFFFFF, seed >> 32))


def chosen(seed, stream, k, r):
    """The first r of a Fisher-Yates permutation of 0..k-1, ascending."""
    order = list(range(k))
    for i in range(k - 1, 0, -1):
        w = words(seed, stream, 0, i)
        j = (((w[0] << 32) | w[1]) * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    return sorted(order[:r])


def record_factors(path):
    """PEFT's PiSSA arithmetic (S divided by the scaling) on every choice of triplets, in f64."""
    rng = np.random.default_rng(2)
    m, n, r, scaling, seed, stream = 48, 32, 6, 2.0, 42, 7
    w = rng.standard_normal((m, n)).astype(np.float32)
    u, s, vt = torch.linalg.svd(torch.from_numpy(w).double(), full_matrices=False)
    u, vt = canonical(u.numpy().copy(), vt.numpy().copy())
    s = s.numpy()
    select = {
        "milora": list(range(n - r, n)),
        "pissa": list(range(r)),
        "mid": list(range((n - r) // 2, (n - r) // 2 + r)),
        "random": chosen(seed, (5 << 24) ^ stream, n, r),  # 5: RNG_SELECT
    }
    out = {"w": w}
    for name, index in select.items():
        root = np.sqrt(s[index] / scaling)
        out[f"{name}.b"] = u[:, index] * root
        out[f"{name}.a"] = root[:, None] * vt[index]
        out[f"{name}.sigma"] = s[index]
    element = np.arange(r * n)
    unit = np.array([(words(seed, (1 << 24) ^ stream, 0, int(e) // 4)[int(e) % 4] >> 8) * 2.0**-24
                     for e in element])  # 1: RNG_INIT, four numbers a counter
    out["lora.a"] = (2 * unit - 1).reshape(r, n) / np.sqrt(n)
    out["gap"] = np.array([np.min(-np.diff(np.append(s, 0.0)))])
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path)


def tiny_model():
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                         tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
                         initializer_range=0.2)
    return LlamaForCausalLM(config).float().eval()


def record_peft(folder):
    from peft import LoraConfig, get_peft_model
    base = os.path.join(folder, "base")
    shutil.rmtree(base, ignore_errors=True)
    tiny_model().save_pretrained(base)
    configs = {
        "peft-plain": LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"],
                                 init_lora_weights=False, task_type="CAUSAL_LM", lora_dropout=0.05),
        "peft-patterns": LoraConfig(r=4, lora_alpha=8, use_rslora=True, task_type="CAUSAL_LM",
                                    target_modules=r".*\.(k_proj|up_proj)", init_lora_weights=False,
                                    rank_pattern={"k_proj": 2},
                                    alpha_pattern={r"layers\.1\.mlp\.up_proj": 3}),
        "peft-layers": LoraConfig(r=2, lora_alpha=2, target_modules=["o_proj", "gate_proj"],
                                  layers_to_transform=[1], init_lora_weights=False,
                                  task_type="CAUSAL_LM"),
    }
    ids = torch.tensor([[1, 5, 9, 3, 17, 30, 2, 11]])
    for name, config in configs.items():
        out = os.path.join(folder, name)
        shutil.rmtree(out, ignore_errors=True)
        torch.manual_seed(len(name))
        model = get_peft_model(tiny_model(), config).eval()
        model.peft_config["default"].base_model_name_or_path = "base"
        model.save_pretrained(out)
        os.remove(os.path.join(out, "README.md"))
        merged = model.merge_and_unload()
        weights = {k: v.detach().numpy() for k, v in merged.state_dict().items()
                   if k.endswith("proj.weight")}
        with torch.no_grad():
            weights["logits"] = merged(ids).logits[0].numpy()
        weights["ids"] = ids[0].numpy().astype(np.int32)
        save_file({k: np.ascontiguousarray(v) for k, v in weights.items()},
                  os.path.join(folder, name + ".merged.safetensors"))
        with open(os.path.join(out, "adapter_config.json")) as f:
            json.load(f)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tests = sys.argv[1]
    for layer in ("linalg", "adapt"):
        os.makedirs(os.path.join(tests, layer, "data"), exist_ok=True)
    record_svd(os.path.join(tests, "linalg", "data", "svd.safetensors"))
    record_factors(os.path.join(tests, "adapt", "data", "factors.safetensors"))
    record_peft(os.path.join(tests, "adapt", "data"))


main()
