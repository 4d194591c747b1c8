/* SPDX-License-Identifier: Apache-2.0 */
/* random.c - r singular triplets drawn without repetition are trained.
 * Equations, hyper-parameters and sources: docs/methods/random.md. */
#include "adapt/methods/factors.h"

static enum mil_status init(struct method_init *io, struct mil_error *err) {
    return factors_from_svd(io, SVD_RANDOM, err);
}

const struct method method_random = {
    .name = "random",
    .summary = "adapts r singular components drawn at random (seeded)",
    .reference = "ablation of MiLoRA, arXiv:2406.09044",
    .adapter = true,
    .needs_weight = true,
    .end = SVD_RANDOM,
    .form = DELTA_PAIR,
    .alpha_over_r = 1,
    .learning_rate = 3e-4,
    .init = init,
};
