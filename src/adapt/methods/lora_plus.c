/* SPDX-License-Identifier: Apache-2.0 */
/* lora_plus.c - LoRA whose B learns 16 times as fast as A.
 * Equations, hyper-parameters and sources: docs/methods/lora_plus.md. */
#include "adapt/methods/factors.h"

const struct method method_lora_plus = {
    .name = "lora_plus",
    .summary = "low-rank adaptation with a larger learning rate for B",
    .reference = "Hayou et al., LoRA+: Efficient Low Rank Adaptation of Large Models, 2024, "
                 "arXiv:2402.12354",
    .adapter = true,
    .alpha_over_r = 2,
    .learning_rate = 1.5e-4,
    .lr_ratio = 16,
    .form = DELTA_LORA,
    .init = factors_kaiming,
};
