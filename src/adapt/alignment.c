/* SPDX-License-Identifier: Apache-2.0 */
/* alignment.c - see alignment.h.
 *
 * phi(P, Q) = ||P Q^T||_F^2 / r of orthonormal bases is the measure of the LoRA paper (appendix G) and of MiLoRA's
 * (appendix A.1).  First update: dA = rate_A Z_A, dB = rate_B Z_B with entries +-1, so for random signs
 *     E ||s (dB A0 + B0 dA)||_F^2 = s^2 ( rate_B^2 m ||A0||_F^2 + rate_A^2 n ||B0||_F^2 ). */
#include "adapt/alignment.h"

#include <cblas.h>
#include <math.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "core/threads.h"
#include "linalg/subspace.h"

/* A factor in f64 as vectors of length d, and the basis of what they span. */
struct factor {
    double *x; /* [r, d] */
    int64_t r, d, rank;
    double norm; /* of the factor, Frobenius */
    bool present;
};

static enum mil_status factor_new(struct factor *s, int64_t r, int64_t d, struct mil_error *err) {
    *s = (struct factor){.r = r, .d = d};
    s->x = mem_calloc(MEM_SCRATCH, (size_t)(r * d), sizeof *s->x);
    return s->x ? MIL_OK : error_nomem(err, (uint64_t)(r * d) * sizeof *s->x);
}

static void factor_close(struct factor *s) {
    double sum = 0;
    for (int64_t i = 0; i < s->r * s->d; i++) sum += s->x[i] * s->x[i];
    s->norm = sqrt(sum);
    s->present = sum > 0;
}

/* A = A0 + dA and B = B0 + dB as they stand. */
static enum mil_status read_factors(const struct delta *d, struct factor *a, struct factor *b,
                                    struct mil_error *err) {
    TRY(factor_new(a, d->r, d->n, err));
    TRY(factor_new(b, d->r, d->m, err));
    for (int64_t i = 0; i < d->r * d->n; i++)
        a->x[i] = (d->a0 ? (double)d->a0[i] : 0) + (d->da ? (double)d->da[i] : 0);
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t t = 0; t < d->r; t++)
            b->x[t * d->m + i] = (d->b0 ? (double)d->b0[i * d->r + t] : 0) +
                                 (d->db ? (double)d->db[i * d->r + t] : 0);
    factor_close(a);
    factor_close(b);
    return MIL_OK;
}

static void gram(const struct factor *s, double *g) {
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)s->r, (int)s->r, (int)s->d, 1.0, s->x,
                (int)s->d, s->x, (int)s->d, 0.0, g, (int)s->r);
}

/* ||B A||_F by tr((B^T B)(A A^T)). */
static enum mil_status product_norm(const struct factor *a, const struct factor *b, double *norm,
                                    struct mil_error *err) {
    size_t rr = (size_t)(a->r * a->r);
    double *g = mem_alloc(MEM_SCRATCH, 2 * rr, sizeof *g), sum = 0;
    if (!g) return error_nomem(err, 2 * rr * sizeof *g);
    gram(a, g);
    gram(b, g + rr);
    for (size_t i = 0; i < rr; i++) sum += g[i] * g[rr + i];
    mem_free(g);
    *norm = sqrt(fmax(sum, 0));
    return MIL_OK;
}

static enum mil_status angle(const struct factor *s, const double *vectors, int64_t r,
                             double *share, struct mil_error *err) {
    *share = -1;
    if (!s->present || s->rank == 0) return MIL_OK;
    TRY(subspace_overlap(s->x, s->rank, vectors, r, s->d, share, err));
    *share /= (double)s->rank;
    return MIL_OK;
}

/* Angles to the r triplets at one end. */
static enum mil_status angles(const struct factor *a, const struct factor *b,
                              const struct svd_matrix *w, enum svd_end end, struct svd_cache *cache,
                              double *left, double *right, struct mil_error *err) {
    const struct svd_request q = {.end = end, .rank = a->r};
    struct svd_result svd;
    bool hit;
    TRY(svd_cached(cache, w, &q, &svd, &hit, err));
    enum mil_status st = angle(b, svd.u, svd.rank, left, err);
    if (st == MIL_OK) st = angle(a, svd.v, svd.rank, right, err);
    svd_release(&svd);
    return st;
}

/* The mean square of the first update's product, without s. */
static double moved_factors(const struct delta *d, const struct factor *a, const struct factor *b,
                            double rate_a, double rate_b) {
    return rate_b * rate_b * (double)d->m * a->norm * a->norm +
           rate_a * rate_a * (double)d->n * b->norm * b->norm;
}

/* AdaLoRA starts at Lambda = 0, so of the first update only that of Lambda counts: sum_t (rate |p_t| |q_t|)^2. */
static double moved_scaled(const struct factor *a, const struct factor *b, double rate) {
    double sum = 0;
    for (int64_t t = 0; t < a->r; t++) {
        double p = 0, q = 0;
        for (int64_t j = 0; j < a->d; j++) q += a->x[t * a->d + j] * a->x[t * a->d + j];
        for (int64_t i = 0; i < b->d; i++) p += b->x[t * b->d + i] * b->x[t * b->d + i];
        sum += p * q;
    }
    return rate * rate * sum;
}

static enum mil_status measure(const struct delta *d, const struct svd_matrix *w, double rate,
                               double lr_ratio, struct svd_cache *cache, struct factor *a,
                               struct factor *b, struct alignment *out, struct mil_error *err) {
    double part = 0, s = delta_scale(d), rate_b = d->form == DELTA_FIXED_B ? 0 : rate * lr_ratio;
    struct subspace_energy e = {0};
    TRY(read_factors(d, a, b, err));
    TRY(product_norm(a, b, &part, err));
    if (d->form == DELTA_SCALED) part = 0; /* Lambda starts at 0 */
    out->a = a->norm;
    out->b = b->norm;
    double moved =
        d->form == DELTA_SCALED ? moved_scaled(a, b, rate) : moved_factors(d, a, b, rate, rate_b);
    if (a->present) TRY(subspace_basis(a->x, a->r, a->d, &a->rank, err));
    if (b->present) TRY(subspace_basis(b->x, b->r, b->d, &b->rank, err));
    TRY(subspace_energy(w, b->x, b->rank, a->x, a->rank, &e, err));
    double norm = sqrt(e.total);
    out->part = norm > 0 ? s * part / norm : 0;
    out->first_step = norm > 0 ? s * sqrt(moved) / norm : 0;
    out->energy_left = b->present && norm > 0 ? e.left / e.total : -1;
    out->energy_right = a->present && norm > 0 ? e.right / e.total : -1;
    TRY(angles(a, b, w, SVD_TOP, cache, &out->left_top, &out->right_top, err));
    return angles(a, b, w, SVD_BOTTOM, cache, &out->left_bottom, &out->right_bottom, err);
}

static enum mil_status measure_one(const struct delta *d, const struct svd_matrix *w, double rate,
                                   double lr_ratio, struct svd_cache *cache, struct alignment *out,
                                   struct mil_error *err) {
    struct factor a = {0}, b = {0};
    *out = (struct alignment){0};
    enum mil_status st = measure(d, w, rate, lr_ratio, cache, &a, &b, out, err);
    mem_free(b.x);
    mem_free(a.x);
    return st;
}

/* ---- all modules, side by side ---- */

struct job {
    const struct adapter *adapter;
    const struct checkpoint *base;
    double rate;
    struct svd_cache *cache;
    struct alignment *out;
    enum mil_status *status;
    struct mil_error *errors;
};

static enum mil_status one(const struct job *j, size_t i, struct mil_error *err) {
    const struct delta *d = &j->adapter->deltas[i];
    struct weight_view view;
    float *copy = NULL;
    TRY(weight_plain(checkpoint_module(j->base, d->layer, d->module), &view, &copy, err));
    const struct svd_matrix w = {view.data, view.dtype, view.rows, view.cols};
    enum mil_status st =
        measure_one(d, &w, j->rate, j->adapter->options.lr_ratio, j->cache, &j->out[i], err);
    mem_free(copy);
    return st;
}

static void work(void *ctx, int64_t begin, int64_t end) {
    const struct job *j = ctx;
    for (int64_t i = begin; i < end; i++) j->status[i] = one(j, (size_t)i, &j->errors[i]);
}

enum mil_status alignment_of_adapter(const struct adapter *a, const struct checkpoint *base,
                                     double rate, struct svd_cache *cache, struct alignment *out,
                                     struct mil_error *err) {
    struct job j = {.adapter = a, .base = base, .rate = rate, .cache = cache, .out = out};
    j.status = mem_calloc(MEM_OTHER, a->n, sizeof *j.status);
    j.errors = mem_calloc(MEM_OTHER, a->n, sizeof *j.errors);
    enum mil_status st = j.status && j.errors ? MIL_OK : error_nomem(err, 0);
    if (st == MIL_OK) parallel_for((int64_t)a->n, 1, work, &j);
    for (size_t i = 0; st == MIL_OK && i < a->n; i++) {
        char name[MODULE_NAME_CAP];
        module_name(name, a->deltas[i].layer, a->deltas[i].module);
        st = j.status[i];
        if (st != MIL_OK && err) *err = j.errors[i];
        if (st != MIL_OK) error_prefix(err, "%s: ", name);
    }
    mem_free(j.errors);
    mem_free(j.status);
    return st;
}
