/* SPDX-License-Identifier: Apache-2.0 */
/* mid.c - the r singular triplets from index floor((k - r) / 2) of the descending spectrum are
 * trained. Equations, hyper-parameters and sources: docs/methods/mid.md. */
#include "adapt/methods/factors.h"

static enum mil_status init(struct method_init *io, struct mil_error *err) {
    return factors_from_svd(io, SVD_MIDDLE, err);
}

const struct method method_mid = {
    .name = "mid",
    .summary = "adapts the r singular components in the middle of the spectrum",
    .reference = "ablation of MiLoRA, arXiv:2406.09044",
    .adapter = true,
    .needs_weight = true,
    .end = SVD_MIDDLE,
    .form = DELTA_PAIR,
    .alpha_over_r = 1,
    .learning_rate = 3e-4,
    .init = init,
};
