/* SPDX-License-Identifier: Apache-2.0 */
/* olora.c - the first r columns of Q and rows of R of W = Q R are trained, the rest of W stays.
 * Equations, hyper-parameters and sources: docs/methods/olora.md. */
#include "adapt/methods/factors.h"
#include "core/mem.h"
#include "linalg/qr.h"

static enum mil_status init(struct method_init *io, struct mil_error *err) {
    size_t numbers = (size_t)(io->r * (io->m + io->n));
    double *q = mem_alloc(MEM_SCRATCH, numbers, sizeof *q);
    if (!q) return error_nomem(err, numbers * sizeof *q);
    double *rows = q + io->r * io->m;
    enum mil_status st = qr_leading(&io->w, io->r, q, rows, err);
    for (int64_t t = 0; st == MIL_OK && t < io->r; t++) {
        for (int64_t i = 0; i < io->m; i++) io->b0[i * io->r + t] = (float)q[t * io->m + i];
        for (int64_t j = 0; j < io->n; j++) io->a0[t * io->n + j] = (float)rows[t * io->n + j];
    }
    mem_free(q);
    return st;
}

const struct method method_olora = {
    .name = "olora",
    .summary = "adapts the leading part of W = Q R: orthonormal B, triangular A",
    .reference = "Buyukakyuz, OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models, "
                 "2024, arXiv:2406.01775",
    .adapter = true,
    .needs_weight = true,
    .scratch = qr_memory,
    .form = DELTA_PAIR,
    .alpha_over_r = 1,
    .learning_rate = 3e-4,
    .init = init,
};
