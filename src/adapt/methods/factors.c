/* SPDX-License-Identifier: Apache-2.0 */
/* factors.c - starting factors of the methods: singular triplets split evenly between both factors,
 * MiCA's left vectors, or LoRA's random A.
 *
 * Splitting sqrt(S) evenly makes the gradients of A and B comparable in size.  The division by the
 * scale s = alpha / r keeps s B0 A0 equal to the chosen part of W when alpha != r; the papers use
 * alpha = r, s = 1. */
#include "adapt/methods/factors.h"

#include <math.h>

#include "core/error.h"
#include "core/rng.h"

static enum mil_status triplets(struct method_init *io, enum svd_end end, struct svd_result *svd,
                                struct mil_error *err) {
    struct svd_request request = {
        .end = end, .rank = io->r, .seed = io->seed, .stream = io->stream};
    TRY(svd_cached(io->cache, &io->w, &request, svd, &io->cached, err));
    io->cached_seconds = io->cached ? svd->seconds : 0;
    io->residual = svd->residual;
    io->orthogonality = svd->orthogonality;
    io->cut = svd->cut;
    io->sigma_first = svd->sigma[0];
    io->sigma_last = svd->sigma[io->r - 1];
    io->sigma_max = svd->sigma_max;
    io->served_by = io->cached ? "cache" : svd->served_by;
    return MIL_OK;
}

enum mil_status factors_from_svd(struct method_init *io, enum svd_end end, struct mil_error *err) {
    struct svd_result svd;
    REQUIRE(io->scale > 0);
    TRY(triplets(io, end, &svd, err));
    for (int64_t t = 0; t < io->r; t++) {
        double root = sqrt(svd.sigma[t] / io->scale);
        for (int64_t i = 0; i < io->m; i++)
            io->b0[i * io->r + t] = (float)(root * svd.u[t * io->m + i]);
        for (int64_t j = 0; j < io->n; j++)
            io->a0[t * io->n + j] = (float)(root * svd.v[t * io->n + j]);
    }
    svd_release(&svd);
    return MIL_OK;
}

enum mil_status factors_left_vectors(struct method_init *io, enum svd_end end,
                                     struct mil_error *err) {
    struct svd_result svd;
    TRY(triplets(io, end, &svd, err));
    for (int64_t t = 0; t < io->r; t++)
        for (int64_t i = 0; i < io->m; i++) io->b0[i * io->r + t] = (float)svd.u[t * io->m + i];
    svd_release(&svd);
    return MIL_OK;
}

enum mil_status factors_kaiming(struct method_init *io, struct mil_error *err) {
    (void)err;
    uint32_t stream = rng_stream(RNG_INIT, io->stream);
    double bound = 1.0 / sqrt((double)io->n);
    struct rng_words words = {{0}};
    for (int64_t i = 0; i < io->r * io->n; i++) {
        if (i % 4 == 0) words = rng_words(io->seed, stream, 0, (uint64_t)i / 4);
        io->a0[i] = (float)(bound * (2.0 * (double)rng_unit_f32(words.w[i % 4]) - 1.0));
    }
    return MIL_OK;
}
