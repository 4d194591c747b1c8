/* SPDX-License-Identifier: Apache-2.0 */
/* dora.c - LoRA's start, with a magnitude for each row of the weight on top (adapt/dora.c).
 * Equations, hyper-parameters and sources: docs/methods/dora.md. */
#include "adapt/methods/factors.h"

const struct method method_dora = {
    .name = "dora",
    .summary = "LoRA for the direction of each row, a trained magnitude for its length",
    .reference = "Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, 2024, arXiv:2402.09353",
    .adapter = true,
    .dora = true,
    .alpha_over_r = 2,
    .learning_rate = 2e-4,
    .form = DELTA_LORA,
    .init = factors_kaiming,
};
