/* SPDX-License-Identifier: Apache-2.0 */
/* mica.c - B holds the r left singular vectors of the smallest singular values and is frozen, A starts at zero
 * and is trained.  Equations, hyper-parameters and sources: docs/methods/mica.md. */
#include "adapt/methods/factors.h"

static enum mil_status init(struct method_init *io, struct mil_error *err) {
    return factors_left_vectors(io, SVD_BOTTOM, err);
}

const struct method method_mica = {
    .name = "mica",
    .summary = "trains A alone, on the r minor left singular vectors",
    .reference = "Ruediger and Raschka, MiCA Learns More Knowledge Than LoRA and Full Fine-Tuning, "
                 "2026, arXiv:2604.01694",
    .adapter = true,
    .needs_weight = true,
    .end = SVD_BOTTOM,
    .form = DELTA_FIXED_B,
    .alpha_over_r = 1,
    .learning_rate = 6e-4,
    .no_dora = "a magnitude would change W along all its left singular vectors, of which MiCA "
               "leaves the principal ones alone; PEFT refuses it too",
    .no_ratio = "its B is frozen: there is one learning rate",
    .init = init,
};
