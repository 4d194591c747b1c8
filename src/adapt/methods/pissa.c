/* SPDX-License-Identifier: Apache-2.0 */
/* pissa.c - the r largest singular triplets are trained, the rest of W stays.
 * Equations, hyper-parameters and sources: docs/methods/pissa.md. */
#include "adapt/methods/factors.h"

static enum mil_status init(struct method_init *io, struct mil_error *err) {
    return factors_from_svd(io, SVD_TOP, err);
}

const struct method method_pissa = {
    .name = "pissa",
    .summary = "adapts the r largest singular components",
    .reference = "Meng et al., PiSSA: Principal Singular Values and Singular Vectors Adaptation of "
                 "Large Language Models, 2024, arXiv:2404.02948",
    .adapter = true,
    .needs_weight = true,
    .end = SVD_TOP,
    .form = DELTA_PAIR,
    .alpha_over_r = 1,
    .learning_rate = 3e-4,
    .init = init,
};
