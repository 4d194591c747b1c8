/* SPDX-License-Identifier: Apache-2.0 */
/* matrix.c - the operator of a stored weight: its products and its Gram matrix, in f64.
 *
 * A weight of a 7B model is 90 MB as bf16 and 360 MB as f64.  Products widen it tile by tile inside
 * the kernels (kern/x86/weigh_tmpl.h); the Gram matrix, and machines without those kernels, panel by
 * panel (PANEL numbers, 16 MB), each of which goes through a dsyrk or dgemm while it is in the
 * cache.  The order of the sums is fixed by the shape.
 *
 * A row-major panel [rows, n] is, by columns, its transpose [n, rows]; the BLAS calls below are
 * written by columns, as the blocks of vectors are. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "core/cpu.h"
#include "core/mem.h"
#include "core/threads.h"
#include "kern/kern.h"
#include "linalg/internal.h"

enum { PANEL = 1 << 21, GRAIN = 1 << 15 };

/* ---- widening ---- */

struct widen {
    const struct kern *kern;
    struct kern_map map;
};

/* The kernels of this machine; filled once a thread, which costs nothing. */
static const struct kern *kernels(void) {
    static _Thread_local struct kern kern;
    if (!kern.map) kern_table_init(&kern, DT_F32, cpu_isa_used());
    return &kern;
}

static struct widen widen_from(const struct svd_matrix *w, int64_t first, enum dtype to,
                               void *out) {
    const unsigned char *from = w->data;
    return (struct widen){kernels(),
                          {.y = out,
                           .x = from + (size_t)first * dtype_size(w->dtype),
                           .y_type = to,
                           .x_type = w->dtype,
                           .scale = 1}};
}

static void widen_run(void *ctx, int64_t begin, int64_t end) {
    const struct widen *c = ctx;
    c->kern->map(&c->map, begin, end);
}

void matrix_rows_f64(const struct svd_matrix *w, int64_t begin, int64_t end, double *out) {
    struct widen c = widen_from(w, begin * w->n, DT_F64, out);
    parallel_for((end - begin) * w->n, GRAIN, widen_run, &c);
}

void matrix_rows_f32(const struct svd_matrix *w, int64_t begin, int64_t end, float *out) {
    struct widen c = widen_from(w, begin * w->n, DT_F32, out);
    parallel_for((end - begin) * w->n, GRAIN, widen_run, &c);
}

/* Columns [begin, end), row-major with ld = end - begin. */
struct gather {
    const struct svd_matrix *w;
    int64_t begin, cols;
    double *out;
};

static void gather_rows(void *ctx, int64_t begin, int64_t end) {
    const struct gather *g = ctx;
    for (int64_t i = begin; i < end; i++) {
        struct widen c = widen_from(g->w, i * g->w->n + g->begin, DT_F64, g->out + i * g->cols);
        widen_run(&c, 0, g->cols);
    }
}

static void matrix_columns_f64(const struct svd_matrix *w, int64_t begin, int64_t end,
                               double *out) {
    struct gather g = {w, begin, end - begin, out};
    parallel_for(w->m, 16, gather_rows, &g);
}

/* ---- products ---- */

static int64_t panel_rows(const struct svd_matrix *w) {
    int64_t rows = PANEL / w->n;
    if (rows < 16) rows = 16;
    return rows < w->m ? rows : w->m;
}

static double *panel_new(const struct svd_matrix *w, struct mil_error *err) {
    size_t n = (size_t)panel_rows(w) * (size_t)w->n;
    double *panel = mem_alloc(MEM_SCRATCH, n, sizeof *panel);
    if (!panel) error_nomem(err, n * sizeof *panel);
    return panel;
}

/* By panels and dgemm, where there is no vector kernel: out [m, p] = W in, in [n, p]; or, turned, out
 * [n, p] = W^T in, in [m, p]. */
static enum mil_status by_panels(const struct svd_matrix *w, bool turned, const double *in,
                                 int64_t p, double *out, struct mil_error *err) {
    double *panel = panel_new(w, err);
    if (!panel) return MIL_NOMEM;
    int64_t step = panel_rows(w);
    int m = (int)w->m, n = (int)w->n;
    for (int64_t i = 0; i < w->m; i += step) {
        int64_t rows = w->m - i < step ? w->m - i : step;
        matrix_rows_f64(w, i, i + rows, panel);
        if (turned)
            cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, n, (int)p, (int)rows, 1.0, panel,
                        n, in + i, m, i == 0 ? 0.0 : 1.0, out, n);
        else
            cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, (int)rows, (int)p, n, 1.0, panel,
                        n, in, n, 0.0, out + i, m);
    }
    mem_free(panel);
    return MIL_OK;
}

/* Blocks of vectors between [rows, p] by columns and [rows][width] by rows, zeros beyond p. */
struct turn {
    double *by_columns, *by_rows;
    int64_t rows, p, width;
};

static void to_rows(void *ctx, int64_t begin, int64_t end) {
    const struct turn *t = ctx;
    for (int64_t i = begin; i < end; i++)
        for (int64_t c = 0; c < t->width; c++)
            t->by_rows[i * t->width + c] = c < t->p ? t->by_columns[i + c * t->rows] : 0;
}

static void to_columns(void *ctx, int64_t begin, int64_t end) {
    const struct turn *t = ctx;
    for (int64_t c = 0; c < t->p; c++)
        for (int64_t i = begin; i < end; i++)
            t->by_columns[i + c * t->rows] = t->by_rows[i * t->width + c];
}

struct weighing {
    struct kern_weigh args;
    bool turned;
};

static void weigh_groups(void *ctx, int64_t begin, int64_t end) {
    const struct weighing *c = ctx;
    if (c->turned)
        kernels()->weigh_t(&c->args, begin, end);
    else
        kernels()->weigh(&c->args, begin, end);
}

/* The same by the kernels: no panel is packed twice, and sums do not depend on the threads. */
static enum mil_status product(const struct svd_matrix *w, bool turned, const double *in, int64_t p,
                               double *out, struct mil_error *err) {
    if (kernels()->from.weigh == ISA_REF) return by_panels(w, turned, in, p, out, err);
    int64_t rows_in = turned ? w->m : w->n, rows_out = turned ? w->n : w->m;
    int64_t width = (p + KERN_WEIGH_LANES - 1) / KERN_WEIGH_LANES * KERN_WEIGH_LANES;
    size_t size = (size_t)(w->m + w->n) * (size_t)width;
    double *lanes = mem_alloc(MEM_SCRATCH, size, sizeof *lanes);
    if (!lanes) return error_nomem(err, size * sizeof *lanes);
    struct turn from = {(double *)(uintptr_t)in, lanes, rows_in, p, width};
    struct turn to = {out, lanes + rows_in * width, rows_out, p, width};
    struct weighing c = {{.w = w->data,
                          .type = w->dtype,
                          .rows = w->m,
                          .cols = w->n,
                          .ld = w->n,
                          .width = width,
                          .in = lanes,
                          .out = to.by_rows},
                         turned};
    parallel_for(rows_in, 64, to_rows, &from);
    parallel_for((rows_out + KERN_WEIGH_GROUP - 1) / KERN_WEIGH_GROUP, 1, weigh_groups, &c);
    parallel_for(rows_out, 64, to_columns, &to);
    mem_free(lanes);
    return MIL_OK;
}

enum mil_status matrix_apply(const struct svd_matrix *w, const double *x, int64_t p, double *y,
                             struct mil_error *err) {
    return product(w, w->m < w->n, x, p, y, err);
}

enum mil_status matrix_apply_t(const struct svd_matrix *w, const double *y, int64_t p, double *x,
                               struct mil_error *err) {
    return product(w, w->m >= w->n, y, p, x, err);
}

/* ---- the Gram matrix ---- */

/* W^T W from panels of rows. */
static enum mil_status gram_tall(const struct svd_matrix *w, double *g, struct mil_error *err) {
    double *panel = panel_new(w, err);
    if (!panel) return MIL_NOMEM;
    int64_t step = panel_rows(w);
    int n = (int)w->n;
    for (int64_t i = 0; i < w->m; i += step) {
        int64_t rows = w->m - i < step ? w->m - i : step;
        matrix_rows_f64(w, i, i + rows, panel);
        cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, n, (int)rows, 1.0, panel, n,
                    i == 0 ? 0.0 : 1.0, g, n);
    }
    mem_free(panel);
    return MIL_OK;
}

/* W W^T from panels of columns: [m, cols] gathered row by row. */
static enum mil_status gram_wide(const struct svd_matrix *w, double *g, struct mil_error *err) {
    int64_t step = PANEL / w->m < 16 ? 16 : PANEL / w->m;
    if (step > w->n) step = w->n;
    size_t size = (size_t)w->m * (size_t)step;
    double *panel = mem_alloc(MEM_SCRATCH, size, sizeof *panel);
    if (!panel) return error_nomem(err, size * sizeof *panel);
    for (int64_t j = 0; j < w->n; j += step) {
        int64_t cols = w->n - j < step ? w->n - j : step;
        matrix_columns_f64(w, j, j + cols, panel);
        cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, (int)w->m, (int)cols, 1.0, panel,
                    (int)cols, j == 0 ? 0.0 : 1.0, g, (int)w->m);
    }
    mem_free(panel);
    return MIL_OK;
}

enum mil_status matrix_gram(const struct svd_matrix *w, double *g, struct mil_error *err) {
    return w->m < w->n ? gram_wide(w, g, err) : gram_tall(w, g, err);
}

/* ---- the input ---- */

struct scan {
    const struct svd_matrix *w;
    double *sums;   /* of squares, one a chunk */
    int64_t *first; /* index of the first entry that is not finite, -1: none; one a chunk */
};

static void scan_chunk(void *ctx, int64_t begin, int64_t end) {
    const struct scan *s = ctx;
    double sum = 0, buffer[512];
    for (int64_t i = begin; i < end; i += 512) {
        int64_t n = end - i < 512 ? end - i : 512;
        struct widen c = widen_from(s->w, i, DT_F64, buffer);
        widen_run(&c, 0, n);
        for (int64_t j = 0; j < n; j++) sum += buffer[j] * buffer[j];
    }
    s->sums[begin / GRAIN] = sum;
    s->first[begin / GRAIN] = -1;
    if (isfinite(sum)) return;
    for (int64_t i = begin; i < end && s->first[begin / GRAIN] < 0; i++) {
        struct widen c = widen_from(s->w, i, DT_F64, buffer);
        widen_run(&c, 0, 1);
        if (!isfinite(buffer[0])) s->first[begin / GRAIN] = i;
    }
}

static enum mil_status not_finite(const struct svd_matrix *w, int64_t i, struct mil_error *err) {
    double value;
    struct widen c = widen_from(w, i, DT_F64, &value);
    widen_run(&c, 0, 1);
    return error_set(err, MIL_INPUT, "entry (%lld, %lld) is %s: a weight must be finite",
                     (long long)(i / w->n), (long long)(i % w->n),
                     isnan(value) ? "NaN" : "infinite");
}

enum mil_status matrix_check(const struct svd_matrix *w, double *frobenius, struct mil_error *err) {
    if (w->m < 1 || w->n < 1)
        return error_set(err, MIL_USAGE, "SVD of a %lld x %lld matrix: it has no entries",
                         (long long)w->m, (long long)w->n);
    int64_t count = w->m * w->n, chunks = (count + GRAIN - 1) / GRAIN;
    struct scan s = {w, mem_alloc(MEM_SCRATCH, (size_t)chunks, sizeof(double)),
                     mem_alloc(MEM_SCRATCH, (size_t)chunks, sizeof(int64_t))};
    enum mil_status st = MIL_OK;
    double sum = 0;
    if (!s.sums || !s.first) {
        st = error_nomem(err, (uint64_t)chunks * 16);
        goto fail;
    }
    parallel_for(count, GRAIN, scan_chunk, &s);
    for (int64_t i = 0; i < chunks && st == MIL_OK; i++) {
        if (s.first[i] >= 0) st = not_finite(w, s.first[i], err);
        sum += s.sums[i];
    }
    if (st == MIL_OK && !isfinite(sum))
        st = error_set(err, MIL_INPUT,
                       "the squares of the entries of this %lld x %lld matrix add up to more than "
                       "1.7e308: scale it",
                       (long long)w->m, (long long)w->n);
    *frobenius = sqrt(sum);
fail:
    mem_free(s.first);
    mem_free(s.sums);
    return st;
}
