#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every method: trained by our program for three steps, saved, loaded by PEFT on the untouched base.

    check_methods.py MILORA BASE ROWS OUT [CASE...]

MILORA: the program.  BASE: Hugging Face directory, which is not written to.  ROWS: Alpaca rows.  OUT: an
empty directory for what is trained.  For each case: `milora train`, `milora logits --adapter` in f32
on 8 tokens, PEFT's logits on the same with the saved directory, and with what `milora export` makes of
it as peft, lora and residual ("-": refused, its reason is printed once); `milora merge` and
transformers' logits on its result.  Prints the largest differences and how far the adapter moves logits;
fails where one exceeds 1e-4 of the largest logit (f32 against f32: some hundred roundings of 6e-8; the
residual 1e-3, B0 A0 is subtracted in f32 and added again), where the adapter moves nothing, or where PEFT
warns of missing or unexpected keys.  Cases with biases are left out of a model that has none.  Needs
torch, transformers, peft.
"""
import os
import subprocess
import sys
import warnings

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

IDS = [1, 5, 9, 30, 77, 150, 200, 311]
ADALORA = ["init_r=6", "target_r=3", "tinit=1", "tfinal=1", "deltaT=1", "max_steps=6"]
TARGETS = "target_modules=[q_proj, v_proj, up_proj, down_proj]"
CASES = {
    "lora": ["method=lora"],
    "rslora": ["method=rslora"],
    "lora_plus": ["method=lora_plus"],
    "dora": ["method=dora"],
    "adalora": ["method=adalora", *ADALORA],
    "pissa": ["method=pissa", "lora_alpha=6"],
    "olora": ["method=olora"],
    "mica": ["method=mica"],
    "lora_ga": ["method=lora_ga", "lora_ga_batches=1"],
    "milora": ["method=milora", "lora_alpha=6"],
    "mid": ["method=mid"],
    "random": ["method=random"],
    "pissa_rslora": ["method=pissa", "use_rslora=true", "lora_alpha=6"],
    "pissa_dora": ["method=pissa", "use_dora=true", "lora_alpha=6"],
    "milora_dora": ["method=milora", "use_dora=true", "lora_alpha=6"],
    "milora_rslora": ["method=milora", "use_rslora=true", "lora_alpha=6"],
    "milora_rslora_dora": ["method=milora", "use_rslora=true", "use_dora=true", "lora_alpha=6"],
    "milora_plus": ["method=milora", "loraplus_lr_ratio=4"],
    "mid_dora": ["method=mid", "use_dora=true"],
    "random_dora": ["method=random", "use_dora=true"],
    "olora_dora": ["method=olora", "use_dora=true"],
    "lora_ga_dora": ["method=lora_ga", "lora_ga_batches=1", "use_dora=true"],
    "dora_rslora": ["method=dora", "use_rslora=true"],
    "patterns": ["method=milora", 'rank_pattern={"v_proj": 2, "layers.1.mlp.down_proj": 6}',
                 'alpha_pattern={"up_proj": 3}', "exclude_modules=[layers.0.self_attn.q_proj]"],
    "patterns_rslora": ["method=pissa", "use_rslora=true", 'rank_pattern={"v_proj": 2}',
                        'alpha_pattern={"up_proj": 3}'],
    "patterns_dora": ["method=dora", 'rank_pattern={"v_proj": 2}', "layers_to_transform=[1]"],
    "head": ["method=lora", "modules_to_save=[lm_head]"],
    "embed": ["method=dora", "modules_to_save=[embed_tokens]"],
    "embed_head": ["method=milora", "modules_to_save=[embed_tokens, lm_head]"],
    "bias_all": ["method=lora", "bias=all", "exclude_modules=[q_proj]"],
    "bias_lora_only": ["method=milora", "bias=lora_only", "exclude_modules=[q_proj]"],
}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ...: {done.stderr.strip()[-400:]}")


def logits_of(model):
    with torch.no_grad():
        return model.eval()(torch.tensor([IDS])).logits[0].float().numpy()


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def peft_logits(base, adapter):
    """PEFT's, and its complaints about keys."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logits = logits_of(PeftModel.from_pretrained(load(base), adapter))
    keys = [str(w.message) for w in caught if "adapter keys" in str(w.message)]
    if keys:
        raise RuntimeError(f"PEFT on {adapter}: {keys[0][:200]}")
    return logits


def exported(milora, base, adapter, form, ours, refusals):
    """Largest difference of PEFT's logits with an export; None where the program refuses to write it."""
    out = f"{adapter}-{form}"
    command = [milora, "export", adapter, out, "--format", form, "--model", base, "--dtype", "f32"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        refusals.setdefault(reason.split(": ", 1)[-1], []).append(f"{os.path.basename(adapter)} {form}")
        return None
    residual = form == "residual"
    logits = peft_logits(out if residual else base, os.path.join(out, "adapter") if residual else out)
    return np.abs(logits - ours).max()


def check(milora, base, rows, out, name, plain, refusals):
    adapter, npy = os.path.join(out, name), os.path.join(out, name + ".npy")
    run(milora, "train", f"model_name_or_path={base}", f"dataset={rows}", f"output_dir={adapter}", "r=4",
        "max_steps=3", "per_device_train_batch_size=4", "learning_rate=1e-2", "lr_scheduler_type=constant",
        "warmup_steps=0", "compute_dtype=f32", "report_to=jsonl", "save_steps=0", TARGETS, *CASES[name])
    run(milora, "logits", base, "--adapter", adapter, "--dtype", "f32", "--ids",
        " ".join(map(str, IDS)), "--out", npy)
    ours = np.load(npy)
    merged_dir = os.path.join(out, name + "-merged")
    run(milora, "merge", base, adapter, merged_dir, "--dtype", "f32")
    off = {"saved": np.abs(peft_logits(base, adapter) - ours).max(),
           "merged": np.abs(logits_of(load(merged_dir)) - ours).max()}
    off |= {form: exported(milora, base, adapter, form, ours, refusals)
            for form in ("peft", "lora", "residual")}
    size, moved = np.abs(ours).max(), np.abs(ours - plain).max()
    good = moved > 1e-2 and all(
        d is None or d < (1e-3 if form == "residual" else 1e-4) * size for form, d in off.items())
    print(f"{name:20s} {'ok ' if good else 'BAD'}",
          ", ".join(f"{form} {'-' if d is None else f'{d:.1e}'}" for form, d in off.items()),
          f"; logits up to {size:.1f}, moved by {moved:.2g}", flush=True)
    return good


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    milora, base, rows, out = sys.argv[1:5]
    model, bad, refusals = load(base), [], {}
    biased = any(n.endswith("_proj.bias") for n, _ in model.named_parameters())
    plain = logits_of(model)
    for name in sys.argv[5:] or [c for c in CASES if biased or "bias" not in c]:
        try:
            good = check(milora, base, rows, out, name, plain, refusals)
        except RuntimeError as e:
            good = False
            print(f"{name:20s} BAD  {e}", flush=True)
        if not good:
            bad.append(name)
    for reason, where in refusals.items():
        print(f"refused ({', '.join(where)}): {reason}")
    sys.exit(f"failed: {', '.join(bad)}" if bad else 0)


main()
