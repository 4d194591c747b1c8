/* SPDX-License-Identifier: Apache-2.0 */
/* milora.c - the r smallest singular triplets are trained, the principal part of W stays.
 * Equations, hyper-parameters and sources: docs/methods/milora.md. */
#include "adapt/methods/factors.h"

static enum mil_status init(struct method_init *io, struct mil_error *err) {
    return factors_from_svd(io, SVD_BOTTOM, err);
}

const struct method method_milora = {
    .name = "milora",
    .summary = "adapts the r smallest singular components, keeps the principal ones",
    .reference = "Wang et al., MiLoRA: Harnessing Minor Singular Components for "
                 "Parameter-Efficient LLM Finetuning, 2024, arXiv:2406.09044",
    .adapter = true,
    .needs_weight = true,
    .end = SVD_BOTTOM,
    .form = DELTA_PAIR,
    .alpha_over_r = 1,
    .learning_rate = 3e-4,
    .init = init,
};
