#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every adapter method and the combinations, as PEFT 0.21 trains them: starts, logits, losses, ends.

    record_methods.py tiny DATA OUT.json [CASE...]       DATA: the tests' tiny/ and rows.jsonl; makes
                                                         DATA/tiny-bias (Qwen2) if it is not there
    record_methods.py smollm2 HF_DIR ROWS OUT.json [CASE...]

Needs torch, transformers, peft.  With CASEs, only those are renewed in OUT.json.  For each case:
`settings` (the program's), `start` and `end` of some modules, `logits0_off` (largest difference of
PEFT's logits from the base's before the first step), loss and gradient norm of each step, and
`logits`, after the last step, at the columns of the recording.

Everything is PEFT's own code in float64 (transformers' norms stay in float32): PEFT's initialisers
insist on float32, so while they run its module sees torch.float64 under that name.  Three things are
ours.  torch.linalg.svd has the largest entry of each left vector positive (LoRA-GA takes its factors
from different triplets, so signs change its path).  torch.svd_lowrank is the full SVD: PEFT draws a
random start and its result differs from run to run.  And random starts come from the program's
Philox (philox.py): LoRA's A, AdaLoRA's P (its lora_B, step 1) and Q (lora_A, step 0).

milora, mid, random, which PEFT lacks: a PEFT LoRA whose factors are set to the triplets, over the
residual W - s B0 A0; with use_dora the magnitude is the norm of the rows of W.

Dropout (cases *_drop) has the program's masks.  For DoRA it has the program's definition, which drops
the input of the low-rank branch only: y = c (W x + s B A x'); PEFT also drops that of (c - 1) W x.

AdaLoRA: backward, clipping, step, update_and_allocate, zero_grad, in this order, steps from 1;
`loss` is the data's, `penalty` orth_reg_weight times the regulariser, `budget` and `ranks` stand after
the step.  lora_ga: the gradient is that of the mean loss over all supervised tokens of the first
batches (one padded batch a backward pass, weighted by its tokens).  PEFT's `stable` scale leaves A's
rows at norm 1 and keeps the singular values in B's columns; lora_ga_paper has the authors' code's,
m^(1/4) / sqrt(gamma) in both.
"""
import contextlib
import json
import os
import shutil
import sys
import warnings

import numpy as np
import torch
from peft import AdaLoraConfig, LoraConfig, LoraGAConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora import layer as peft_layer
from peft.tuners.lora.loraga import preprocess_loraga
from peft.tuners.lora.variants import DoraLinearVariant
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

import philox
from record_trajectories import MODULES, samples

SEED, STEPS = 42, 6
ADALORA = dict(init_r=6, target_r=3, tinit=2, tfinal=3, deltaT=1, beta1=0.85, beta2=0.85,
               orth_reg_weight=0.5)


class Case:
    """method and settings as the program takes them; init: PEFT's init_lora_weights, or triplets."""

    def __init__(self, name, method, init=True, alpha=8, rslora=False, dora=False, ratio=0.0, drop=0.0,
                 decay=0.0, lr=1.0, model=None, more=None, **peft):
        self.name, self.method, self.init, self.alpha = name, method, init, alpha
        self.rslora, self.dora, self.ratio, self.drop = rslora, dora, ratio, drop
        self.decay, self.lr, self.model = decay, lr, model
        self.more, self.peft = more or {}, peft  # the program's other settings; those that PEFT has too

    def settings(self, scale):
        out = [f"method={self.method}", f"lora_alpha={self.alpha}", f"lora_dropout={self.drop}",
               f"learning_rate={scale.lr * self.lr!r}"]
        if self.rslora and self.method != "rslora":
            out.append("use_rslora=true")
        if self.dora and self.method != "dora":
            out.append("use_dora=true")
        if self.ratio:
            out.append(f"loraplus_lr_ratio={self.ratio}")
        if self.decay:
            out.append(f"weight_decay={self.decay}")
        if self.method == "adalora":
            out += [f"{k}={v}" for k, v in ADALORA.items()]
        if self.method == "lora_ga":
            more = {"lora_ga_direction": "ArB2r", "lora_ga_scale": "stable"} | self.more
            out.append("lora_ga_batches=2")
        else:
            more = self.more
        return out + [f"{k}={v if isinstance(v, str) else json.dumps(v)}"
                      for k, v in (more | self.peft).items()]


def cases():
    plus = dict(ratio=16.0, lr=0.1)
    yield Case("lora", "lora")
    yield Case("rslora", "rslora", rslora=True)
    yield Case("lora_plus", "lora_plus", **plus)
    yield Case("dora", "dora", dora=True)
    yield Case("adalora", "adalora", alpha=12)
    yield Case("pissa", "pissa", "pissa", alpha=6)
    yield Case("olora", "olora", "olora", alpha=4)
    yield Case("mica", "mica", "mica")
    yield Case("lora_ga", "lora_ga", "lora_ga")
    # One of that module's first gradients with A2rBr is 5e-8 of the largest, within rounding of zero in
    # f32: Adam's first step would go either way.
    yield Case("lora_ga_A2rBr", "lora_ga", "lora_ga", more={"lora_ga_direction": "A2rBr"},
               exclude_modules=["layers.1.self_attn.q_proj"])
    yield Case("lora_ga_ArBr", "lora_ga", "lora_ga", more={"lora_ga_direction": "ArBr"})
    for scale in ("weight_svd", "gd_scale", "unit", "paper"):
        yield Case(f"lora_ga_{scale}", "lora_ga", "lora_ga", more={"lora_ga_scale": scale})
    yield Case("lora_ga_dora", "lora_ga", "lora_ga", dora=True)
    yield Case("lora_ga_rslora", "lora_ga", "lora_ga", alpha=6, rslora=True)
    yield Case("pissa_rslora", "pissa", "pissa", alpha=4, rslora=True)
    yield Case("pissa_dora", "pissa", "pissa", alpha=6, dora=True)
    yield Case("olora_dora", "olora", "olora", alpha=4, dora=True)
    yield Case("dora_rslora", "dora", rslora=True, dora=True)
    yield Case("dora_plus", "dora", dora=True, **plus)
    yield Case("dora_decayed", "dora", dora=True, decay=0.1)
    for method in ("milora", "mid", "random"):
        yield Case(method, method, method, alpha=6)
    yield Case("milora_dora", "milora", "milora", alpha=6, dora=True)
    yield Case("milora_rslora", "milora", "milora", alpha=4, rslora=True)
    yield Case("milora_plus", "milora", "milora", alpha=4, **plus)
    yield Case("mid_dora", "mid", "mid", alpha=4, dora=True)
    yield Case("random_rslora", "random", "random", alpha=4, rslora=True)
    yield Case("lora_drop", "lora", drop=0.1)
    yield Case("milora_drop", "milora", "milora", alpha=6, drop=0.1)
    yield Case("mica_drop", "mica", "mica", drop=0.1)
    yield Case("dora_drop", "dora", dora=True, drop=0.1)
    yield Case("milora_dora_drop", "milora", "milora", alpha=6, dora=True, drop=0.1)
    yield Case("adalora_drop", "adalora", alpha=12, drop=0.1)
    patterns = dict(rank_pattern={"v_proj": 2, "layers.1.mlp.down_proj": 6},
                    alpha_pattern={"up_proj": 3}, exclude_modules=["layers.0.self_attn.k_proj"])
    yield Case("lora_patterns", "lora", **patterns)
    yield Case("milora_patterns", "milora", "milora", alpha=6, **patterns)
    yield Case("rslora_patterns", "rslora", rslora=True, **patterns)
    yield Case("dora_layers", "dora", dora=True, layers_to_transform=[1])
    yield Case("lora_head", "lora", modules_to_save=["lm_head"])
    yield Case("dora_embed", "dora", dora=True, modules_to_save=["embed_tokens"])
    yield Case("milora_both", "milora", "milora", alpha=6, modules_to_save=["embed_tokens", "lm_head"])
    for bias in ("none", "all", "lora_only"):
        yield Case(f"lora_bias_{bias}", "lora", model="tiny-bias", bias=bias, exclude_modules=["k_proj"])
    yield Case("dora_bias_all", "dora", dora=True, model="tiny-bias", bias="all")
    yield Case("milora_dora_bias", "milora", "milora", alpha=6, dora=True, model="tiny-bias")


class Scale:
    """The size of a recording: its model, rows, batch, and where to look."""

    def __init__(self, path, rows, batch, r, lr, targets, watched, ids, columns):
        self.path, self.batch, self.r, self.lr = path, batch, r, lr
        self.targets, self.watched, self.ids, self.columns = targets, watched, ids, columns
        self.data = list(samples(AutoTokenizer.from_pretrained(path), rows))

    def load(self, name=None):
        path = os.path.join(os.path.dirname(self.path), name) if name else self.path
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64,
                                                     attn_implementation="eager")
        model.loss_function = exact_loss
        return model.eval()

    def batch_of(self, step, size):
        """(row of the file, (ids, first supervised)) in file order, over and over."""
        at = (step * size) % len(self.data)
        return [(i, self.data[i]) for i in range(at, at + size)]


def exact_loss(logits, labels, vocab_size, **_):
    """transformers' own rounds the logits to float32."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, vocab_size),
                                             labels[:, 1:].reshape(-1), ignore_index=-100)


# ---- PEFT's initialisers in float64


def canonical_svd(w, full_matrices=False):
    u, s, vh = np.linalg.svd(w.double().numpy(), full_matrices=full_matrices)
    sign = np.sign(u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])])
    return torch.tensor(u * sign), torch.tensor(s), torch.tensor(vh * sign[:, None])


def full_svd_lowrank(w, q, niter):
    u, s, vh = canonical_svd(w)
    return u[:, :q], s[:q], vh[:q].T


class Overlay:
    """A module with some names replaced."""

    def __init__(self, module, **names):
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name):
        return getattr(self._module, name)


@contextlib.contextmanager
def float64_inits():
    old = peft_layer.torch
    peft_layer.torch = Overlay(torch, float32=torch.float64, svd_lowrank=full_svd_lowrank,
                               linalg=Overlay(torch.linalg, svd=canonical_svd))
    try:
        yield
    finally:
        peft_layer.torch = old


# ---- building


def module_number(name):
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]) * 7 + MODULES.index(parts[-1])


def adapted(model):
    """(path in the base model, layer) of each adapted module, in canonical order."""
    found = [(n.removeprefix("base_model.model."), m) for n, m in model.named_modules()
             if hasattr(m, "lora_A") and "default" in m.lora_A]
    return sorted(found, key=lambda nm: module_number(nm[0]))


def gradients(model, config, scale):
    """preprocess_loraga with the first two batches, padded on the right.  It averages over backward
    passes; the program means the mean over all supervised tokens, so each batch's loss counts by its
    tokens."""
    batches = [[s for _, s in scale.batch_of(step, scale.batch)] for step in range(2)]
    supervised = [sum(len(ids) - first for ids, first in batch) for batch in batches]

    def train_step():
        for batch, tokens in zip(batches, supervised):
            longest = max(len(ids) for ids, _ in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
            for i, (row, first) in enumerate(batch):
                ids[i, :len(row)], labels[i, first:len(row)], mask[i, :len(row)] = row, row[first:], 1
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            (loss * tokens * len(batches) / sum(supervised)).backward()
    preprocess_loraga(model, config, train_step)


def triplets(w, method, r, s, number):
    u, sigma, vh = (x.numpy() for x in canonical_svd(w))
    k = len(sigma)
    at = {"milora": range(k - r, k), "mid": range((k - r) // 2, (k - r) // 2 + r)}
    index = list(at[method]) if method in at else philox.chosen(SEED, number, k, r)
    root = np.sqrt(sigma[index] / s)
    return u[:, index] * root, root[:, None] * vh[index]


def set_start(case, scale, name, layer, original):
    number, base, f64 = module_number(name), layer.base_layer, torch.float64
    if case.method == "adalora":
        r = ADALORA["init_r"]
        layer.lora_A["default"].data = torch.tensor(
            philox.normal(SEED, number, 0, r, base.in_features, 0.02))
        layer.lora_B["default"].data = torch.tensor(
            philox.normal(SEED, number, 1, base.out_features, r, 0.02))
        return
    a, b, s = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"]
    if case.init is True:
        a.data = torch.tensor(philox.kaiming(SEED, number, layer.r["default"], base.in_features))
    elif case.init in ("milora", "mid", "random"):
        b0, a0 = triplets(original, case.init, layer.r["default"], s, number)
        a.data, b.data = torch.tensor(a0), torch.tensor(b0)
        base.weight.data = original - s * b.data @ a.data
    elif case.init == "lora_ga":
        if case.more.get("lora_ga_scale") == "paper":
            stable = base.out_features**0.25 / 16**0.5
            a.data, b.data = stable * a.data, stable * b.data / b.data.norm(dim=0)
        # again: PEFT takes the product through float32
        base.weight.data = original - s * b.data @ a.data
        if case.dora:
            layer.lora_magnitude_vector["default"].weight.data = torch.linalg.norm(original, dim=1)
    assert a.dtype == b.dtype == base.weight.dtype == f64


class OurDora:
    """The magnitude over the whole sum; dropout on the low-rank branch only."""

    @staticmethod
    def forward(module, active_adapter, x, result, **_):
        a, b = module.lora_A[active_adapter].weight, module.lora_B[active_adapter].weight
        s, w = module.scaling[active_adapter], module.base_layer.weight
        norm = torch.linalg.norm((w + s * b @ a).detach(), dim=1)
        c = module.lora_magnitude_vector[active_adapter].weight / norm
        dropped = module.lora_dropout[active_adapter](x)
        return c * (x @ w.T + s * (dropped @ a.T) @ b.T)


class PhiloxDropout(torch.nn.Module):
    now = None  # (step, row of the file)

    def __init__(self, number, p):
        super().__init__()
        self.number, self.p = number, p

    def forward(self, x):
        if not self.training:
            return x
        step, rows = PhiloxDropout.now
        masks = [philox.mask(SEED, self.number, step, row, x.shape[1], x.shape[2], self.p)
                 for row in rows]
        return x * torch.tensor(np.stack(masks))


def build(case, scale):
    model = scale.load(case.model)
    original = {n: m.weight.detach().clone() for n, m in model.named_modules()
                if isinstance(m, torch.nn.Linear)}
    if case.method == "adalora":
        total = 10
        config = AdaLoraConfig(lora_alpha=case.alpha, total_step=total, target_modules=scale.targets,
                               task_type="CAUSAL_LM", **ADALORA)
    else:
        peft_init = case.init if case.init in (True, "pissa", "olora", "mica", "lora_ga") else True
        config = LoraConfig(r=scale.r, lora_alpha=case.alpha, target_modules=scale.targets,
                            use_rslora=case.rslora, use_dora=case.dora, task_type="CAUSAL_LM",
                            init_lora_weights=peft_init, **case.peft,
                            lora_ga_config=None if peft_init != "lora_ga" else LoraGAConfig(
                                direction=case.more.get("lora_ga_direction", "ArB2r"),
                                scale=case.more.get("lora_ga_scale", "stable").replace("paper", "unit")))
    if case.init == "lora_ga":
        gradients(model, config, scale)
    with float64_inits():
        model = get_peft_model(model, config)
    for name, layer in adapted(model):
        set_start(case, scale, name, layer, original[name])
        if case.drop:
            layer.lora_dropout["default"] = PhiloxDropout(module_number(name), case.drop)
            if case.dora:
                layer.lora_variant["default"] = OurDora
    return model, original


# ---- what is written down


def probe(n, shift):
    return torch.cos(0.7 * torch.arange(n, dtype=torch.float64) + shift)


def start_of(case, layer):
    a, b = layer.lora_A["default"], layer.lora_B["default"]
    if case.method != "adalora":
        a, b = a.weight, b.weight
    a, b = a.detach(), b.detach()
    x, y = probe(a.shape[1], 0.3), probe(b.shape[0], 0.5)
    out = {"a_norm": a.norm().item(), "b_norm": b.norm().item(), "ax": (a @ x).norm().item(),
           "bty": (b.T @ y).norm().item()}
    if case.method != "adalora":
        out["bax"] = (layer.scaling["default"] * b @ (a @ x))[:8].tolist()
    return out


def end_of(weight, original):
    change = weight - original
    return {"norm": change.norm().item(), "change": (change @ probe(change.shape[1], 0.3))[:8].tolist()}


def picked(logits, scale):
    return logits[:, ::scale.columns].tolist()


def optimizer_of(case, model, lr):
    kwargs = dict(betas=(0.9, 0.999), eps=1e-8)
    if case.ratio:
        return create_loraplus_optimizer(model, torch.optim.AdamW, lr=lr, loraplus_lr_ratio=case.ratio,
                                         **kwargs)
    params = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(params, lr=lr, weight_decay=case.decay, **kwargs)


def data_loss(model, batch, step):
    """Backward of the mean over the supervised tokens, sample by sample; its value."""
    count, total = sum(len(ids) - first for _, (ids, first) in batch), 0.0
    for row, (ids, first) in batch:
        PhiloxDropout.now = (step, [row])
        logits = model(input_ids=ids[None]).logits[0, first - 1:-1]
        loss = torch.nn.functional.cross_entropy(logits, ids[first:], reduction="sum") / count
        loss.backward()
        total += loss.item()
    return total


def penalty_of(model):
    """PEFT adds it to a loss: what it adds to 0."""
    tuner, inner = model.base_model, model.base_model.model.forward
    tuner.model.forward = lambda: Overlay(None, loss=torch.zeros((), dtype=torch.float64))
    try:
        return tuner.forward().loss
    finally:
        tuner.model.forward = inner


def allocate(model, step, out):
    """PEFT's step hook; how near a triplet is to the other side of the threshold."""
    allocator, config = model.base_model.rankallocator, model.peft_config["default"]
    out["budget"].append(allocator.budget_schedule(step)[0])
    model.base_model.update_and_allocate(step)
    pattern = config.rank_pattern or {}
    full = ADALORA["init_r"]
    ranks = []
    for name, _ in adapted(model):
        kept = pattern.get(f"{name}.lora_E.default")
        ranks.append(full if kept is None else sum(kept))
    out["ranks"].append(ranks)


def watch_margins(allocator, margins):
    """The relative distance between the last masked score and the first kept one."""
    old = torch.kthvalue

    def kthvalue(scores, k):
        order = scores.sort().values
        margins.append(((order[k] - order[k - 1]) / order[k]).item())
        return old(scores, k)
    torch.kthvalue = kthvalue
    return old


def record(case, scale, base_logits):
    torch.manual_seed(1)
    model, original = build(case, scale)
    ids = torch.tensor([scale.ids])
    ada = case.method == "adalora"
    batch_size = scale.batch // 2 if ada else scale.batch
    steps = 10 if ada else STEPS
    out = {"settings": case.settings(scale) + [f"per_device_train_batch_size={batch_size}",
                                               f"max_steps={steps}"],
           "peft": case.init not in ("milora", "mid", "random"), "model": case.model or "tiny",
           "start": {n: start_of(case, m) for n, m in adapted(model) if n in scale.watched},
           "loss": [], "grad_norm": []}
    model.eval()
    with torch.no_grad():
        if case.model:
            base_logits = scale.load(case.model)(input_ids=ids).logits[0]
            out["logits0"] = picked(base_logits, scale)
        out["logits0_off"] = (model(input_ids=ids).logits[0] - base_logits).abs().max().item()
    model.train()
    if ada:
        out |= {"penalty": [], "budget": [], "ranks": []}
        margins = []
        kth = watch_margins(model.base_model.rankallocator, margins)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer_of(case, model, scale.lr * case.lr)
    for step in range(1, steps + 1):
        out["loss"].append(data_loss(model, scale.batch_of(step - 1, batch_size), step))
        if ada:
            penalty = penalty_of(model)
            penalty.backward()
            out["penalty"].append(penalty.item())
        out["grad_norm"].append(torch.nn.utils.clip_grad_norm_(params, 1.0).item())
        optimizer.step()
        if ada:
            allocate(model, step, out)
        optimizer.zero_grad()
    if ada:
        torch.kthvalue = kth
        print(case.name, "narrowest margin of a mask", f"{min(margins):.1e}", out["ranks"][-1])
    model.eval()
    with torch.no_grad():
        out["logits"] = picked(model(input_ids=ids).logits[0], scale)
        if case.dora:
            out["magnitude"] = {n: m.lora_magnitude_vector["default"].weight[:8].tolist()
                                for n, m in adapted(model) if n in scale.watched}
        if case.dora:
            for _, m in adapted(model):
                m.lora_variant["default"] = DoraLinearVariant
        merged = dict(model.merge_and_unload().named_modules())
        out["end"] = {n: end_of(merged[n].weight, original[n]) for n in out["start"]}
    print(case.name, f"start off by {out['logits0_off']:.1e}; loss", *(f"{x:.9f}" for x in out["loss"]),
          "norm", *(f"{x:.6f}" for x in out["grad_norm"]), flush=True)
    return out


def record_all(scale, path, names):
    golden = {}
    if names and os.path.exists(path):
        with open(path) as f:
            golden = json.load(f)
    ids = torch.tensor([scale.ids])
    with torch.no_grad():
        logits = scale.load()(input_ids=ids).logits[0]
    golden |= {"r": scale.r, "targets": scale.targets, "ids": scale.ids, "columns": scale.columns,
               "logits0": picked(logits, scale)}
    recorded = golden.setdefault("cases", {})
    for case in cases():
        if not names or case.name in names:
            recorded[case.name] = record(case, scale, logits)
            with open(path, "w") as f:
                json.dump(golden, f, indent=1)
                f.write("\n")


def read_rows(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def make_biased(folder):
    """tiny with biases on q, k, v, as Qwen2 has them."""
    out = os.path.join(folder, "tiny-bias")
    os.makedirs(out, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(folder, "tiny", name), out)
    torch.manual_seed(6)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5,
        bos_token_id=0, eos_token_id=1, tie_word_embeddings=True)).float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(0.15 * torch.randn(p.shape) if p.ndim == 2 or "bias" in name else
                    1 + 0.1 * torch.randn(p.shape))
    model.save_pretrained(out)


def main():
    warnings.filterwarnings("ignore")
    torch.set_default_dtype(torch.float64)
    if len(sys.argv) >= 4 and sys.argv[1] == "tiny":
        scale = Scale(os.path.join(sys.argv[2], "tiny"), read_rows(os.path.join(sys.argv[2], "rows.jsonl")),
                      8, 4, 1e-2, ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"],
                      ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"],
                      [0, 5, 9, 30, 77, 150, 200, 311], 40)
        if not os.path.exists(os.path.join(sys.argv[2], "tiny-bias")):
            make_biased(sys.argv[2])
        record_all(scale, sys.argv[3], sys.argv[4:])
    elif len(sys.argv) >= 5 and sys.argv[1] == "smollm2":
        scale = Scale(sys.argv[2], read_rows(sys.argv[3]), 2, 8, 1e-3,
                      [f"layers.{x}" for x in ("3.self_attn.q_proj", "9.self_attn.k_proj",
                                               "16.self_attn.v_proj", "22.mlp.up_proj", "29.mlp.down_proj")],
                      ["model.layers.3.self_attn.q_proj", "model.layers.29.mlp.down_proj"],
                      [1, 9690, 198, 2683, 314, 260, 3575, 282], 4000)
        record_all(scale, sys.argv[4], sys.argv[5:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
