/* SPDX-License-Identifier: Apache-2.0 */
/* slice_ldlt.c - block LDL^T with orthogonal diagonal blocks and delayed pivots, in f32.
 *
 * Bunch and Kaufman's pivoting searches a column before every elimination, which is a product of a
 * matrix with a vector a step: LAPACK's ssytrf runs at a quarter of the speed of sgemm.  Here a
 * diagonal block B of the Schur complement (WIDTH fresh coordinates and those left over) is
 * diagonalised, B = Q diag(e) Q^T, the block's coordinates are rotated by Q, and those with
 * |e| >= KEEP * median|e| are eliminated; the rest, small pivots that would let the factors grow,
 * join the next block, where coupling to fresh coordinates spreads their eigenvalues again.  At
 * least half of a block is taken, so a block never exceeds 2 WIDTH.  Backward stability is not
 * proven, it is measured: whoever counts with these factors compares their product with G. */
#include "linalg/slice_ldlt.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/threads.h"

enum { FRESH = LDLT_WIDTH / 2, GROUP = 256 };
static const float keep = 0.2f;

static int64_t steps_at_most(int64_t k) {
    return 2 * (k / FRESH) + 4;
}

enum mil_status ldlt_new_in(int64_t k, float **g, struct ldlt *f, struct mil_error *err) {
    int64_t steps = steps_at_most(k), rows = k > 2 * LDLT_WIDTH ? k : 2 * LDLT_WIDTH;
    *f = (struct ldlt){.k = k, .a = *g};
    *g = NULL;
    f->d = mem_alloc(MEM_SCRATCH, (size_t)k, sizeof *f->d);
    f->q = mem_alloc(MEM_SCRATCH, (size_t)(steps * LDLT_WIDTH * LDLT_WIDTH), sizeof *f->q);
    f->step = mem_alloc(MEM_SCRATCH, (size_t)steps, sizeof *f->step);
    f->panel = mem_alloc(MEM_SCRATCH, (size_t)(rows * (GROUP + LDLT_WIDTH)), sizeof *f->panel);
    f->panel_f64 = mem_alloc(MEM_SCRATCH, (size_t)(rows * LDLT_WIDTH), sizeof *f->panel_f64);
    if (f->a && f->d && f->q && f->step && f->panel && f->panel_f64) return MIL_OK;
    ldlt_release(f);
    return error_nomem(err, ldlt_memory(k));
}

enum mil_status ldlt_new(int64_t k, struct ldlt *f, struct mil_error *err) {
    float *a = mem_alloc(MEM_SCRATCH, (size_t)(k * k), sizeof *a);
    return ldlt_new_in(k, &a, f, err);
}

void ldlt_release(struct ldlt *f) {
    mem_free(f->a);
    mem_free(f->d);
    mem_free(f->q);
    mem_free(f->step);
    mem_free(f->panel);
    mem_free(f->panel_f64);
    memset(f, 0, sizeof *f);
}

size_t ldlt_memory(int64_t k) {
    int64_t numbers =
        k * k + steps_at_most(k) * LDLT_WIDTH * LDLT_WIDTH + k * (GROUP + 3 * LDLT_WIDTH);
    return (size_t)numbers * sizeof(float);
}

/* ---- factorisation ---- */

struct shifted_copy {
    const float *g;
    float *a, shift;
    int64_t k;
};

static void copy_columns(void *ctx, int64_t begin, int64_t end) {
    const struct shifted_copy *c = ctx;
    for (int64_t j = begin; j < end; j++) {
        int64_t at = j * c->k + j;
        if (c->a != c->g) memcpy(c->a + at, c->g + at, (size_t)(c->k - j) * sizeof *c->a);
        c->a[at] -= c->shift;
    }
}

static int by_magnitude(const void *a, const void *b) {
    float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
    return (x > y) - (x < y);
}

/* Order the eigenpairs (e, q [b, b]): those to be eliminated first, in their order.  Returns how
 * many. tmp [b, b] is scratch. */
static int64_t accept(float *e, float *q, int64_t b, bool last, float *tmp) {
    float sorted[LDLT_WIDTH], old[LDLT_WIDTH];
    memcpy(sorted, e, (size_t)b * sizeof *e);
    memcpy(old, e, (size_t)b * sizeof *e);
    memcpy(tmp, q, (size_t)(b * b) * sizeof *q);
    qsort(sorted, (size_t)b, sizeof *sorted, by_magnitude);
    float least = last ? 0 : keep * fabsf(sorted[b / 2]);
    int64_t taken = 0, to = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < b; i++) {
            if ((fabsf(old[i]) >= least) != (pass == 0)) continue;
            e[to] = old[i];
            memcpy(q + to * b, tmp + i * b, (size_t)b * sizeof *q);
            to++;
            taken += pass == 0;
        }
    return taken;
}

/* Columns [from, from + cols) of the lower triangle -= what the columns [group, at) have taken out of
 * them: unscaled columns (f->panel) times scaled ones (f->a). */
static void update(struct ldlt *f, int64_t group, int64_t at, int64_t from, int64_t cols) {
    enum { STRIPE = 256 };
    int64_t k = f->k;
    for (int64_t j = from; j < from + cols; j += STRIPE) {
        int64_t n = from + cols - j < STRIPE ? from + cols - j : STRIPE;
        cblas_sgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)(k - j), (int)n,
                    (int)(at - group), -1.0f, f->panel + j, (int)k, f->a + group * k + j, (int)k,
                    1.0f, f->a + j * k + j, (int)k);
    }
}

struct scaled_copy {
    float *to;
    const float *from, *e;
    int64_t rest, taken, k;
};

/* Columns of the rotated panel back into a, those taken divided by their pivots. */
static void store_columns(void *ctx, int64_t begin, int64_t end) {
    const struct scaled_copy *c = ctx;
    for (int64_t j = begin; j < end; j++) {
        const float *from = c->from + j * c->k;
        float *to = c->to + j * c->k, by = j < c->taken ? 1.0f / c->e[j] : 1.0f;
        for (int64_t i = 0; i < c->rest; i++) to[i] = from[i] * by;
    }
}

/* The delayed coordinates are now uncoupled among themselves: their block is diagonal. */
static void store_delayed(struct ldlt *f, const struct ldlt_step *s, const float *e) {
    for (int64_t j = s->taken; j < s->width; j++) {
        float *column = f->a + (s->at + j) * f->k + s->at;
        for (int64_t i = j; i < s->width; i++) column[i] = i == j ? e[j] : 0.0f;
    }
}

static void copy_block(const float *a, int64_t k, float *q, int64_t b) {
    for (int64_t j = 0; j < b; j++) memcpy(q + j * b + j, a + j * k + j, (size_t)(b - j) * 4);
}

struct eigen {
    float *q, *e;
    int64_t b;
    int info;
};

/* The first of two bodies of parallel_for, the other is empty: inside a parallel region BLAS keeps to
 * one thread.  The thousands of small products within ssyevd would each wake the other threads, which
 * takes longer than the products. */
static void diagonalise(void *ctx, int64_t begin, int64_t end) {
    struct eigen *p = ctx;
    (void)end;
    if (begin > 0) return;
    p->info = LAPACKE_ssyevd(LAPACK_COL_MAJOR, 'V', 'L', (int)p->b, p->q, (int)p->b, p->e);
}

/* One step: block [at, at + width).  Its rotated columns, unscaled, go into panel [k, width] too. */
static enum mil_status advance(struct ldlt *f, struct ldlt_step *s, float *q, float *panel,
                               struct mil_error *err) {
    int64_t k = f->k, b = s->width, rest = k - s->at - b;
    float e[LDLT_WIDTH], *a = f->a + s->at * k + s->at;
    copy_block(a, k, q, b);
    struct eigen problem = {q, e, b, 0};
    parallel_for(2, 1, diagonalise, &problem);
    if (problem.info != 0)
        return error_set(err, MIL_NUMERIC, "ssyevd of a %lld x %lld block did not converge (%d)",
                         (long long)b, (long long)b, problem.info);
    s->taken = accept(e, q, b, rest == 0, panel);
    memcpy(f->d + s->at, e, (size_t)s->taken * sizeof *e);
    for (int64_t i = 0; i < s->taken; i++)
        if (!(isfinite(e[i]) && e[i] != 0))
            return error_set(err, MIL_NUMERIC, "the shift is an eigenvalue, a pivot is %g",
                             (double)e[i]);
    store_delayed(f, s, e);
    if (rest == 0) return MIL_OK;
    panel += s->at + b;
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)rest, (int)b, (int)b, 1.0f, a + b,
                (int)k, q, (int)b, 0.0f, panel, (int)k);
    struct scaled_copy c = {a + b, panel, e, rest, s->taken, k};
    parallel_for(b, 8, store_columns, &c);
    return MIL_OK;
}

/* Steps are gathered in groups: within a group a step reaches only the columns of the next one, and
 * the rest of the triangle is read and written once a group. */
enum mil_status ldlt_factor(struct ldlt *f, const float *g, float shift, int64_t *below,
                            struct mil_error *err) {
    int64_t k = f->k, at = 0, late = 0, group = 0;
    struct shifted_copy c = {g, f->a, shift, k};
    parallel_for(k, 64, copy_columns, &c);
    f->steps = 0;
    while (at < k) {
        int64_t fresh = FRESH < k - at - late ? FRESH : k - at - late;
        struct ldlt_step *s = &f->step[f->steps];
        REQUIRE(late + fresh <= LDLT_WIDTH && f->steps < steps_at_most(k));
        if (at > group) update(f, group, at, at + late, fresh);
        *s = (struct ldlt_step){at, late + fresh, 0};
        TRY(advance(f, s, f->q + f->steps * LDLT_WIDTH * LDLT_WIDTH, f->panel + (at - group) * k,
                    err));
        f->steps++;
        at += s->taken;
        late = s->width - s->taken;
        if (at - group < GROUP) continue;
        update(f, group, at, at + late, k - at - late);
        group = at;
    }
    *below = 0;
    for (int64_t i = 0; i < k; i++) *below += f->d[i] < 0;
    return MIL_OK;
}

/* ---- solution and product ---- */

/* x [rows from at, p] = op(Q) x on the rows of the block; tmp [width, p]. */
static void rotate(const struct ldlt *f, int64_t i, CBLAS_TRANSPOSE op, float *x, int64_t p) {
    const struct ldlt_step *s = &f->step[i];
    float *tmp = f->panel;
    cblas_sgemm(CblasColMajor, op, CblasNoTrans, (int)s->width, (int)p, (int)s->width, 1.0f,
                f->q + i * LDLT_WIDTH * LDLT_WIDTH, (int)s->width, x + s->at, (int)f->k, 0.0f, tmp,
                (int)s->width);
    for (int64_t j = 0; j < p; j++)
        memcpy(x + j * f->k + s->at, tmp + j * s->width, (size_t)s->width * sizeof *x);
}

static void solve_block(const struct ldlt *f, float *x, int64_t p) {
    int k = (int)f->k, n = (int)p;
    for (int64_t i = 0; i < f->steps; i++) {
        const struct ldlt_step *s = &f->step[i];
        int64_t below = s->at + s->width;
        rotate(f, i, CblasTrans, x, p);
        if (below < f->k)
            cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)(f->k - below), n,
                        (int)s->taken, -1.0f, f->a + s->at * f->k + below, k, x + s->at, k, 1.0f,
                        x + below, k);
    }
    for (int64_t j = 0; j < p; j++)
        for (int64_t i = 0; i < f->k; i++) x[j * f->k + i] /= f->d[i];
    for (int64_t i = f->steps - 1; i >= 0; i--) {
        const struct ldlt_step *s = &f->step[i];
        int64_t below = s->at + s->width;
        if (below < f->k)
            cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, (int)s->taken, n,
                        (int)(f->k - below), -1.0f, f->a + s->at * f->k + below, k, x + below, k,
                        1.0f, x + s->at, k);
        rotate(f, i, CblasNoTrans, x, p);
    }
}

void ldlt_solve(const struct ldlt *f, float *x, int64_t p) {
    for (int64_t j = 0; j < p; j += LDLT_WIDTH)
        solve_block(f, x + j * f->k, p - j < LDLT_WIDTH ? p - j : LDLT_WIDTH);
}

/* ---- the product of the factors, in f64 ---- */

struct to_f64 {
    const float *from;
    double *to;
    int64_t rows, ld; /* from [rows, ...] with ld; to packed */
};

static void widen_columns(void *ctx, int64_t begin, int64_t end) {
    const struct to_f64 *c = ctx;
    for (int64_t j = begin; j < end; j++)
        for (int64_t i = 0; i < c->rows; i++)
            c->to[j * c->rows + i] = (double)c->from[j * c->ld + i];
}

/* x [rows of the block, p] = op(Q) x. */
static void rotate_f64(const struct ldlt *f, int64_t i, CBLAS_TRANSPOSE op, double *x, int64_t p) {
    const struct ldlt_step *s = &f->step[i];
    int64_t b = s->width;
    double *q = f->panel_f64, *tmp = q + b * b;
    struct to_f64 c = {f->q + i * LDLT_WIDTH * LDLT_WIDTH, q, b, b};
    widen_columns(&c, 0, b);
    cblas_dgemm(CblasColMajor, op, CblasNoTrans, (int)b, (int)p, (int)b, 1.0, q, (int)b, x + s->at,
                (int)f->k, 0.0, tmp, (int)b);
    for (int64_t j = 0; j < p; j++)
        memcpy(x + j * f->k + s->at, tmp + j * b, (size_t)b * sizeof *x);
}

/* L_i in f64 [rest, taken]; returns rest. */
static int64_t widen_panel(const struct ldlt *f, const struct ldlt_step *s) {
    int64_t below = s->at + s->width, rest = f->k - below;
    struct to_f64 c = {f->a + s->at * f->k + below, f->panel_f64, rest, f->k};
    if (rest > 0) parallel_for(s->taken, 4, widen_columns, &c);
    return rest;
}

static void multiply_block(const struct ldlt *f, double *x, int64_t p) {
    int k = (int)f->k, n = (int)p;
    for (int64_t i = 0; i < f->steps; i++) {
        const struct ldlt_step *s = &f->step[i];
        rotate_f64(f, i, CblasTrans, x, p);
        int64_t rest = widen_panel(f, s);
        if (rest > 0)
            cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, (int)s->taken, n, (int)rest, 1.0,
                        f->panel_f64, (int)rest, x + f->k - rest, k, 1.0, x + s->at, k);
    }
    for (int64_t j = 0; j < p; j++)
        for (int64_t i = 0; i < f->k; i++) x[j * f->k + i] *= (double)f->d[i];
    for (int64_t i = f->steps - 1; i >= 0; i--) {
        const struct ldlt_step *s = &f->step[i];
        int64_t rest = widen_panel(f, s);
        if (rest > 0)
            cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)rest, n, (int)s->taken, 1.0,
                        f->panel_f64, (int)rest, x + s->at, k, 1.0, x + f->k - rest, k);
        rotate_f64(f, i, CblasNoTrans, x, p);
    }
}

void ldlt_multiply(const struct ldlt *f, double *x, int64_t p) {
    for (int64_t j = 0; j < p; j += LDLT_WIDTH)
        multiply_block(f, x + j * f->k, p - j < LDLT_WIDTH ? p - j : LDLT_WIDTH);
}
