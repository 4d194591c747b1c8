/* SPDX-License-Identifier: Apache-2.0 */
/* lora_ga.c - the factors are singular vectors of the gradient G = dL/dW = sum_i s_i u_i v_i^T over the first
 * samples, so that the first steps of B A go where those of W would.  A and B take different ones of the 2 r
 * largest, ArB2r:
 *     A0 = c V[0, r)^T,   B0 = c U[r, 2r),   c = m^(1/4) / sqrt(gamma)
 * (the paper's stable scale).  PEFT's scales leave A0 orthonormal and multiply B0's columns by their s_i besides.
 * Equations, hyper-parameters, sources, differences: docs/methods/lora_ga.md. */
#include <math.h>

#include "adapt/adapter.h"
#include "adapt/methods/factors.h"
#include "core/mem.h"
#include "core/rng.h"

/* The scratch of the largest decomposition; of small matrices that of a full one is an upper bound. */
static size_t scratch(int64_t m, int64_t n, int64_t r) {
    size_t k = (size_t)(m < n ? m : n), both = (size_t)(m + n), size = (size_t)m * (size_t)n;
    const struct svd_request q = {.end = SVD_TOP, .rank = 2 * r};
    size_t chosen = svd_memory(m, n, &q),
           full = (2 * size + k * both + 4 * k * k + 8 * k) * sizeof(double);
    return chosen < full ? chosen : full;
}

/* Which triplets A's rows and B's columns are: a, b [r] of numbers in [0, 2r); order [2r]: scratch. */
static void choose(const struct method_init *io, int64_t *a, int64_t *b, int64_t *order) {
    const struct lora_ga_options *o = &io->options->lora_ga;
    int64_t r = io->r;
    bool apart = o->scale == LORA_GA_PAPER;
    rng_permutation(io->seed, rng_stream(RNG_SELECT, io->stream), 0, 2 * r, order);
    for (int64_t t = 0; t < r; t++) switch (o->direction) {
        case LORA_GA_AR_B2R: a[t] = t, b[t] = r + t; break;
        case LORA_GA_A2R_BR: a[t] = r + t, b[t] = t; break;
        case LORA_GA_AR_BR: a[t] = 2 * t + 1, b[t] = 2 * t; break;
        case LORA_GA_RANDOM: a[t] = order[t], b[t] = order[apart ? r + t : t]; break;
        }
}

/* The largest singular value of W. */
static enum mil_status weight_norm(struct method_init *io, double *sigma, struct mil_error *err) {
    const struct svd_request q = {.end = SVD_TOP, .rank = 1};
    struct svd_result svd;
    bool hit;
    TRY(svd_cached(io->cache, &io->w, &q, &svd, &hit, err));
    *sigma = svd.sigma[0];
    svd_release(&svd);
    return MIL_OK;
}

/* A0 = sa V[a]^T, B0 = sb U[b], the columns of B0 times their singular values with weighted. */
struct sizes {
    double a, b;
    bool weighted;
};
static enum mil_status sizes_of(struct method_init *io, double first, struct sizes *out,
                                struct mil_error *err) {
    const struct lora_ga_options *o = &io->options->lora_ga;
    double stable = sqrt(sqrt((double)io->m)) / sqrt(o->stable_gamma), sigma;
    *out = (struct sizes){1, 1, true};
    switch (o->scale) {
    case LORA_GA_PAPER: *out = (struct sizes){stable, stable, false}; break;
    case LORA_GA_STABLE: out->b = stable; break;
    case LORA_GA_GD: out->a = out->b = 1 / io->scale; break;
    case LORA_GA_UNIT: break;
    case LORA_GA_WEIGHT_SVD:
        if (!(first > 0)) break;
        TRY(weight_norm(io, &sigma, err));
        out->b = sigma / first;
        break;
    }
    return MIL_OK;
}

static void fill(struct method_init *io, const struct svd_result *svd, const struct sizes *size,
                 const int64_t *a, const int64_t *b) {
    for (int64_t t = 0; t < io->r; t++) {
        const double *v = svd->v + a[t] * io->n, *u = svd->u + b[t] * io->m;
        double scale = size->weighted ? size->b * svd->sigma[b[t]] : size->b;
        for (int64_t j = 0; j < io->n; j++) io->a0[t * io->n + j] = (float)(size->a * v[j]);
        for (int64_t i = 0; i < io->m; i++) io->b0[i * io->r + t] = (float)(scale * u[i]);
    }
}

/* Finite, and not zero all over. */
static enum mil_status check(const struct method_init *io, struct mil_error *err) {
    bool any = false;
    for (int64_t i = 0; i < io->m * io->n; i++) {
        if (!isfinite(io->g[i]))
            return error_set(err, MIL_NUMERIC,
                             "the gradient of the loss is not finite at [%lld, %lld]: lora_ga has "
                             "no direction to start from; try compute_dtype f32",
                             (long long)(i / io->n), (long long)(i % io->n));
        any |= io->g[i] != 0;
    }
    if (any) return MIL_OK;
    return error_set(err, MIL_NUMERIC,
                     "the gradient of the loss is zero: lora_ga has no direction to start from; "
                     "leave the module out (exclude_modules), or raise lora_ga_batches");
}

static enum mil_status init(struct method_init *io, struct mil_error *err) {
    const struct svd_matrix g = {io->g, DT_F32, io->m, io->n};
    const struct svd_request q = {.end = SVD_TOP, .rank = 2 * io->r};
    struct svd_result svd;
    struct sizes size;
    TRY(check(io, err));
    int64_t *a = mem_alloc(MEM_SCRATCH, (size_t)io->r * 4, sizeof *a);
    if (!a) return error_nomem(err, (uint64_t)io->r * 4 * sizeof *a);
    int64_t *b = a + io->r;
    enum mil_status st = svd_compute(&g, &q, &svd, err);
    if (st == MIL_OK) {
        choose(io, a, b, b + io->r);
        st = sizes_of(io, svd.sigma[b[0]], &size, err);
        if (st == MIL_OK) fill(io, &svd, &size, a, b);
        io->residual = svd.residual;
        io->orthogonality = svd.orthogonality;
        io->cut = svd.cut;
        io->sigma_first = svd.sigma[0];
        io->sigma_last = svd.sigma[2 * io->r - 1];
        io->sigma_max = svd.sigma_max;
        io->served_by = svd.served_by;
        svd_release(&svd);
    }
    mem_free(a);
    return st;
}

const struct method method_lora_ga = {
    .name = "lora_ga",
    .summary = "starts along the singular vectors of the loss's gradient",
    .reference =
        "Wang, Yu, and Li, LoRA-GA: Low-Rank Adaptation with Gradient Approximation, 2024, "
        "arXiv:2407.05000",
    .adapter = true,
    .needs_weight = true, /* for the scale weight_svd */
    .needs_gradient = true,
    .scratch = scratch,
    .form = DELTA_PAIR,
    .alpha_over_r = 2,
    .learning_rate = 1e-4,
    .init = init,
};
