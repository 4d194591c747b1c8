/* SPDX-License-Identifier: Apache-2.0 */
/* lora.c - A starts Kaiming-uniform, B at zero; only dB's term of the delta form exists.
 * Equations, hyper-parameters and sources: docs/methods/lora.md. */
#include "adapt/methods/factors.h"

const struct method method_lora = {
    .name = "lora",
    .summary = "low-rank adaptation: random A, zero B",
    .reference = "Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, "
                 "arXiv:2106.09685",
    .adapter = true,
    .alpha_over_r = 2,
    .learning_rate = 3e-4,
    .form = DELTA_LORA,
    .init = factors_kaiming,
};
