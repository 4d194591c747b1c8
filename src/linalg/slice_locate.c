/* SPDX-License-Identifier: Apache-2.0 */
/* slice_locate.c - which shift has a given number of eigenvalues below it?
 *
 * Block Lanczos with a random block Q_0 of b columns: its Ritz values x_i with the weights
 * (k / b) ||first b entries of the i-th Ritz vector||^2 are a quadrature of the spectral density
 * (Golub and Meurant), right to about sqrt(k / b) in a count.  The density is smooth, so counts
 * between the nodes are interpolated.  The inertia at the shift so found is exact; if it misses the
 * window, the shift is moved by what it was wrong. */
#include "linalg/slice_locate.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "linalg/slice.h"

enum { BLOCK = 8, STEPS = 20, RESTARTS = 6, RESTART_STEPS = 8, TRIES = 5 };

static void apply_gram(const void *ctx, const float *x, float *y, int64_t p) {
    const struct locate *c = ctx;
    cblas_ssymm(CblasColMajor, CblasLeft, CblasLower, (int)c->k, (int)p, 1.0f, c->g, (int)c->k, x,
                (int)c->k, 0.0f, y, (int)c->k);
}

/* Nodes ascending, in singular values (square roots of eigenvalues: their density is the flatter one),
 * and the counts at them. */
struct density {
    int64_t n;
    double *x, *count;
};

static enum mil_status density_new(const struct lanczos *b, struct density *d,
                                   struct mil_error *err) {
    d->n = b->dim;
    d->x = mem_alloc(MEM_SCRATCH, (size_t)(2 * b->dim), sizeof *d->x);
    if (!d->x) return error_nomem(err, (uint64_t)(2 * b->dim) * sizeof *d->x);
    d->count = d->x + b->dim;
    double sum = 0;
    for (int64_t i = 0; i < b->dim; i++) {
        double weight = 0;
        for (int64_t j = 0; j < b->block; j++) {
            double e = (double)b->vector[i * b->dim + j];
            weight += e * e;
        }
        weight *= (double)b->k / (double)b->block;
        d->x[i] = b->value[i] > 0 ? sqrt((double)b->value[i]) : 0;
        d->count[i] = sum + weight / 2;
        sum += weight;
    }
    return MIL_OK;
}

/* Piecewise linear through (from, to), constant outside. */
static double interpolate(const double *from, const double *to, int64_t n, double at) {
    int64_t i = 0;
    while (i < n && from[i] < at) i++;
    if (i == 0) return to[0];
    if (i == n) return to[n - 1];
    double width = from[i] - from[i - 1], part = width > 0 ? (at - from[i - 1]) / width : 0;
    return to[i - 1] + part * (to[i] - to[i - 1]);
}

/* Largest Ritz value, its error leak^2 / gap brought below 1e-6 of it. */
static enum mil_status largest(struct lanczos *b, double *value, struct mil_error *err) {
    for (int i = 0;; i++) {
        double top = (double)b->value[b->dim - 1], gap = top - (double)b->value[b->dim - BLOCK / 2];
        double leak = (double)b->leak[b->dim - 1];
        *value = top;
        if (leak * leak <= 1e-6 * gap * top || i == RESTARTS) return MIL_OK;
        lanczos_restart_top(b);
        TRY(lanczos_extend(b, RESTART_STEPS * BLOCK, err));
        TRY(lanczos_ritz(b, err));
    }
}

/* Singular value a count, by the quadrature, around `count`: its mean over a wide range, the nodes are
 * too coarse for a local one. */
static double slope_at(const struct density *d, double count, double range) {
    double from = interpolate(d->count, d->x, d->n, count - range);
    return (interpolate(d->count, d->x, d->n, count + range) - from) / (2 * range);
}

/* Shifts until one has its count near the middle of the window: what it misses costs Krylov
 * dimensions, less than another factorisation.  The first comes from the
 * quadrature, the second from its slope half way to where the count says that the target is, all
 * others from the secant through the last two exact counts. */
static enum mil_status shift(struct locate *c, const struct density *d, struct ldlt *f,
                             struct mil_error *err) {
    double target = (double)(c->low + c->high) / 2, room = (double)(c->high - c->low) / 4 + 20;
    double x[TRIES + 1], count[TRIES], slope;
    x[0] = interpolate(d->count, d->x, d->n, target);
    for (int i = 0; i < TRIES; i++) {
        float mu = (float)(x[i] * x[i]);
        x[i] = sqrt((double)mu);
        TRY(ldlt_factor(f, c->g, mu, &c->below, err));
        count[i] = (double)c->below;
        log_debug("slice: %lld eigenvalues below %.6g, wanted %.0f", (long long)c->below,
                  (double)mu, target);
        slope = slope_at(d, target + (target - count[0]) / 2, (double)c->k / 12);
        if (i > 0 && count[i] != count[i - 1])
            slope = (x[i] - x[i - 1]) / (count[i] - count[i - 1]);
        c->mu = (double)mu;
        c->spacing = 2 * x[i] * slope;
        if (fabs(count[i] - target) <= room) return MIL_OK;
        x[i + 1] = fabs(x[i] + slope * (target - count[i]));
    }
    return error_set(err, MIL_NUMERIC, "no shift has about %.0f eigenvalues below it", target);
}

enum mil_status slice_locate(struct locate *c, struct ldlt *f, struct mil_error *err) {
    struct lanczos b;
    struct density d = {0};
    enum mil_status st;
    TRY(lanczos_new(c->k, BLOCK, STEPS * BLOCK, apply_gram, c, &b, err));
    TRY_GOTO(lanczos_start(&b, err));
    TRY_GOTO(lanczos_extend(&b, b.cap, err));
    TRY_GOTO(lanczos_ritz(&b, err));
    TRY_GOTO(density_new(&b, &d, err));
    TRY_GOTO(largest(&b, &c->largest, err));
    lanczos_release(&b);
    TRY_GOTO(shift(c, &d, f, err));
fail:
    mem_free(d.x);
    lanczos_release(&b);
    return st;
}
