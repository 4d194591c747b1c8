/* SPDX-License-Identifier: Apache-2.0 */
/* rslora.c - LoRA with the scaling alpha / sqrt(r), which keeps the size of the change when the rank grows.
 * Equations, hyper-parameters and sources: docs/methods/rslora.md. */
#include "adapt/methods/factors.h"

const struct method method_rslora = {
    .name = "rslora",
    .summary = "low-rank adaptation scaled by alpha / sqrt(r)",
    .reference = "Kalajdzievski, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, "
                 "2023, arXiv:2312.03732",
    .adapter = true,
    .alpha = 16,
    .learning_rate = 3e-4,
    .rslora = true,
    .form = DELTA_LORA,
    .init = factors_kaiming,
};
