#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record NumPy's singular values of a model's linear modules, and the numbers made from them.

    record_spectrum.py MODEL_DIR RANK OUT.json

MODEL_DIR is a Hugging Face directory with one model.safetensors.  The equations are written here anew
(docs/analysis.md has them).  tests/analysis/data/spectrum.json is this for tests/adapt/data/base and rank
5.  Needs numpy, safetensors.
"""
import json
import re
import sys

import numpy as np
from safetensors.numpy import load_file


def entropy_rank(p):
    p = p / p.sum()
    return float(np.exp(-np.sum(p[p > 0] * np.log(p[p > 0]))))


def measures(w, r):
    s = np.linalg.svd(w.astype(np.float64), compute_uv=False)
    energy = np.cumsum(s**2) / np.sum(s**2)
    return {
        "sigma_max": s[0], "sigma_top": s[r - 1], "sigma_bottom": s[len(s) - r], "sigma_min": s[-1],
        "frobenius": float(np.linalg.norm(w.astype(np.float64))),
        "condition": float(np.linalg.cond(w.astype(np.float64))),
        "stable_rank": float(np.sum(s**2) / s[0]**2),
        "effective_rank": entropy_rank(s),
        "effective_rank_energy": entropy_rank(s**2),
        "rank_90": int(np.searchsorted(energy, 0.90)) + 1,
        "rank_99": int(np.searchsorted(energy, 0.99)) + 1,
        "numerical_rank": int(np.linalg.matrix_rank(w.astype(np.float64))),
        "energy_top": energy[r - 1], "energy_bottom": float(np.sum(s[-r:]**2) / np.sum(s**2)),
        "sigma": s.tolist(),
    }


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, rank, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    weights = load_file(f"{folder}/model.safetensors")
    pattern = re.compile(r"(model\.layers\.(\d+)\..*_proj)\.weight")
    modules = {}
    for name, w in weights.items():
        if found := pattern.fullmatch(name):
            modules[found[1]] = {"rows": w.shape[0], "cols": w.shape[1]} | measures(w, rank)
    with open(out, "w") as f:
        json.dump({"rank": rank, "modules": modules}, f)
        f.write("\n")


main()
