/* SPDX-License-Identifier: Apache-2.0 */
/* adalora.c - P diag(Lambda) Q: P and Q from N(0, 0.02^2), Lambda at zero; ranks are given to the modules that need
 * them while it trains (src/adapt/adalora.c).
 *
 * The standard deviation is that of the authors' code and of PEFT; the paper says "random Gaussian". Numbers are
 * Philox's (seed, RNG_INIT + stream, step, element), step 0 for Q [r, n] and 1 for P [m, r], rows first.
 * Equations, hyper-parameters and sources: docs/methods/adalora.md. */
#include "adapt/adalora.h"
#include "adapt/methods/factors.h"
#include "core/rng.h"

static void fill_normal(const struct method_init *io, uint32_t step, float *out, int64_t n) {
    uint32_t stream = rng_stream(RNG_INIT, io->stream);
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(0.02 * rng_normal(io->seed, stream, step, (uint64_t)i));
}

static enum mil_status init(struct method_init *io, struct mil_error *err) {
    (void)err;
    fill_normal(io, 0, io->a0, io->r * io->n);
    fill_normal(io, 1, io->db, io->m * io->r);
    return MIL_OK;
}

const struct method method_adalora = {
    .name = "adalora",
    .summary = "P diag(Lambda) Q, its rank moved to the modules that need it",
    .reference = "Zhang et al., Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning "
                 "(AdaLoRA), ICLR 2023, arXiv:2303.10512",
    .adapter = true,
    .alpha = 32,
    .learning_rate = 5e-4,
    .no_dora = "a magnitude would take over the size that Lambda is pruned by, and PEFT has no "
               "such adapter",
    .no_rslora = "its scale is lora_alpha / init_r while ranks change; set lora_alpha",
    .no_ratio = "P and Q both start at random and Lambda at zero: there is no factor B that starts "
                "at zero for the ratio to speed up",
    .form = DELTA_SCALED,
    .init = init,
    .step = &adalora_step,
};
