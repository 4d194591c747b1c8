/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_elementwise.c - operations in which an output element depends on the same element of the
 * inputs: matrices are cut into segments of rows, and segments are handed to a kernel.
 *
 *     row 0   | segment 0 | segment 1 | ..   |      piece = row * segments + segment
 *     row 1   | ...
 *
 * A matrix without gaps is taken as one long row, so that narrow matrices do not make tiny
 * segments. */
#include <math.h>
#include <string.h>

#include "backend/cpu.h"
#include "core/threads.h"

enum { SEGMENT = 4096, MAX_OPERANDS = 6 };

struct pieces {
    /* Run the kernel on n elements of each operand, from (row, col). */
    void (*run)(const struct pieces *p, int64_t row, int64_t col, int64_t n);
    const struct kern *kern;
    struct tensor t[MAX_OPERANDS];
    int n_t;
    const void *args; /* of the operation; what run expects */
    int64_t segments; /* in a row */
};

static void run_pieces(void *ctx, int64_t begin, int64_t end) {
    const struct pieces *p = ctx;
    int64_t cols = p->t[0].cols;
    for (int64_t i = begin; i < end; i++) {
        int64_t col = i % p->segments * SEGMENT, left = cols - col;
        p->run(p, i / p->segments, col, left < SEGMENT ? left : SEGMENT);
    }
}

/* One long row where no operand has gaps. */
static void flatten(struct pieces *p) {
    for (int i = 0; i < p->n_t; i++)
        if (p->t[i].data && p->t[i].ld != p->t[i].cols) return;
    int64_t n = p->t[0].rows * p->t[0].cols;
    for (int i = 0; i < p->n_t; i++)
        p->t[i] = (struct tensor){p->t[i].data, p->t[i].dtype, 1, n, n};
}

static void for_pieces(struct pieces *p, enum cpu_work work) {
    int64_t cols = p->t[0].cols;
    p->segments = (cols + SEGMENT - 1) / SEGMENT;
    int64_t n = p->t[0].rows * p->segments, each = cols < SEGMENT ? cols : SEGMENT;
    parallel_for(n, cpu_grain(n, each, work), run_pieces, p);
}

static void *piece_at(const struct pieces *p, int i, int64_t row, int64_t col) {
    return p->t[i].data ? tensor_at(p->t[i], row, col) : NULL;
}

/* ---- zero, map ---- */

static void run_zero(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    memset(piece_at(p, 0, row, col), 0, (size_t)n * dtype_size(p->t[0].dtype));
}

void cpu_zero(struct stream *s, struct tensor t) {
    (void)s;
    struct pieces p = {.run = run_zero, .t = {t}, .n_t = 1};
    flatten(&p);
    for_pieces(&p, CPU_LIGHT);
}

static void run_map(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    struct kern_map a = *(const struct kern_map *)p->args;
    a.y = piece_at(p, 0, row, col);
    a.x = piece_at(p, 1, row, col);
    p->kern->map(&a, 0, n);
}

void cpu_map(struct stream *s, struct tensor y, double scale, struct tensor x, bool accumulate) {
    struct kern_map args = {
        .y_type = y.dtype, .x_type = x.dtype, .scale = scale, .accumulate = accumulate};
    struct pieces p = {
        .run = run_map, .kern = &cpu_of(s)->kern, .t = {y, x}, .n_t = 2, .args = &args};
    flatten(&p);
    for_pieces(&p, CPU_LIGHT);
}

/* x has one row: with ld 0 it is the same for all rows of y. */
void cpu_add_row(struct stream *s, struct tensor y, struct tensor x) {
    struct kern_map args = {.y_type = y.dtype, .x_type = x.dtype, .scale = 1.0, .accumulate = true};
    struct pieces p = {
        .run = run_map, .kern = &cpu_of(s)->kern, .t = {y, x}, .n_t = 2, .args = &args};
    p.t[1].ld = 0;
    for_pieces(&p, CPU_LIGHT);
}

/* ---- scale_cols ---- */

static void run_times(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    struct kern_times a = {.y = piece_at(p, 0, row, col),
                           .x = piece_at(p, 1, row, col),
                           .f = piece_at(p, 2, 0, col),
                           .y_type = p->t[0].dtype,
                           .x_type = p->t[1].dtype};
    p->kern->times(&a, 0, n);
}

void cpu_scale_cols(struct stream *s, struct tensor dst, struct tensor src, struct tensor f) {
    struct pieces p = {.run = run_times, .kern = &cpu_of(s)->kern, .t = {dst, src, f}, .n_t = 3};
    for_pieces(&p, CPU_LIGHT);
}

/* ---- swiglu ---- */

static void run_swiglu_fwd(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    struct kern_swiglu a = {.h = piece_at(p, 0, row, col),
                            .g = piece_at(p, 1, row, col),
                            .u = piece_at(p, 2, row, col)};
    p->kern->swiglu_fwd(&a, 0, n);
}

void cpu_swiglu_fwd(struct stream *s, struct tensor h, struct tensor g, struct tensor u) {
    struct pieces p = {.run = run_swiglu_fwd, .kern = &cpu_of(s)->kern, .t = {h, g, u}, .n_t = 3};
    flatten(&p);
    for_pieces(&p, CPU_HEAVY);
}

static void run_swiglu_bwd(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    struct kern_swiglu a = {.dg = piece_at(p, 0, row, col),
                            .du = piece_at(p, 1, row, col),
                            .dh = piece_at(p, 2, row, col),
                            .g = piece_at(p, 3, row, col),
                            .u = piece_at(p, 4, row, col)};
    p->kern->swiglu_bwd(&a, 0, n);
}

void cpu_swiglu_bwd(struct stream *s, struct tensor dg, struct tensor du, struct tensor dh,
                    struct tensor g, struct tensor u) {
    struct pieces p = {
        .run = run_swiglu_bwd, .kern = &cpu_of(s)->kern, .t = {dg, du, dh, g, u}, .n_t = 5};
    flatten(&p);
    for_pieces(&p, CPU_HEAVY);
}

/* ---- dropout ---- */

struct mask_call {
    const struct kern *kern;
    struct kern_dropout_mask a;
    struct tensor mask;
    const uint64_t *row_key;
    int64_t groups; /* in a row */
};

static void mask_rows(void *ctx, int64_t begin, int64_t end) {
    const struct mask_call *c = ctx;
    for (int64_t t = begin; t < end; t++) {
        struct kern_dropout_mask a = c->a;
        a.mask = tensor_at(c->mask, t, 0);
        a.first = c->row_key[t] * (uint64_t)a.cols;
        c->kern->dropout_mask(&a, 0, c->groups);
    }
}

void cpu_dropout_mask(struct stream *s, struct tensor mask, int64_t cols,
                      const struct dropout_key *key, const uint64_t *row_key) {
    struct mask_call c = {.kern = &cpu_of(s)->kern,
                          .mask = mask,
                          .row_key = row_key,
                          .groups = mask.cols / 8,
                          .a = {.cols = cols,
                                .seed = key->seed,
                                .stream = key->stream,
                                .step = key->step,
                                .threshold = (uint32_t)ceil(key->p * 0x1p24)}};
    parallel_for(mask.rows, cpu_grain(mask.rows, cols, CPU_HEAVY), mask_rows, &c);
}

static void run_dropout_apply(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    struct kern_dropout_apply a = *(const struct kern_dropout_apply *)p->args;
    a.kept = piece_at(p, 0, row, col);
    a.change = piece_at(p, 1, row, col);
    a.x = piece_at(p, 2, row, col);
    a.mask = piece_at(p, 3, row, col / 8); /* a segment begins on a byte */
    p->kern->dropout_apply(&a, 0, n);
}

void cpu_dropout_apply(struct stream *s, struct tensor kept, struct tensor change, struct tensor x,
                       struct tensor mask, double p) {
    struct kern_dropout_apply args = {.kept_type = kept.dtype,
                                      .change_type = change.dtype,
                                      .x_type = x.dtype,
                                      .inv_keep = 1.0 / (1.0 - p)};
    struct pieces pieces = {.run = run_dropout_apply,
                            .kern = &cpu_of(s)->kern,
                            .t = {kept, change, x, mask},
                            .n_t = 4,
                            .args = &args};
    for_pieces(&pieces, CPU_LIGHT); /* the mask's rows end on whole groups: not flattened */
}

/* ---- optimiser ---- */

static void run_adamw(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    struct kern_adamw a = *(const struct kern_adamw *)p->args;
    a.p = piece_at(p, 0, row, col);
    a.m = piece_at(p, 1, row, col);
    a.v = piece_at(p, 2, row, col);
    a.g = piece_at(p, 3, row, col);
    a.base = piece_at(p, 4, row, col);
    a.copy = piece_at(p, 5, row, col);
    p->kern->adamw(&a, 0, n);
}

void cpu_adamw(struct stream *s, struct tensor p, struct tensor m, struct tensor v, struct tensor g,
               struct tensor base, struct tensor copy, const struct adamw *h) {
    struct kern_adamw args = {.lr = h->lr,
                              .beta1 = h->beta1,
                              .beta2 = h->beta2,
                              .eps = h->eps,
                              .weight_decay = h->weight_decay,
                              .bias1 = h->bias1,
                              .bias2 = h->bias2,
                              .grad_scale = h->grad_scale};
    struct pieces pieces = {.run = run_adamw,
                            .kern = &cpu_of(s)->kern,
                            .t = {p, m, v, g, base, copy},
                            .n_t = 6,
                            .args = &args};
    flatten(&pieces);
    for_pieces(&pieces, CPU_HEAVY);
}

static void run_importance(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    struct kern_importance a = *(const struct kern_importance *)p->args;
    a.mean = piece_at(p, 0, row, col);
    a.spread = piece_at(p, 1, row, col);
    a.p = piece_at(p, 2, row, col);
    a.base = piece_at(p, 3, row, col);
    a.g = piece_at(p, 4, row, col);
    p->kern->importance(&a, 0, n);
}

void cpu_importance(struct stream *s, struct tensor mean, struct tensor spread, struct tensor p,
                    struct tensor base, struct tensor g, const struct importance *h) {
    struct kern_importance args = {
        .beta1 = h->beta1, .beta2 = h->beta2, .grad_scale = h->grad_scale};
    struct pieces pieces = {.run = run_importance,
                            .kern = &cpu_of(s)->kern,
                            .t = {mean, spread, p, base, g},
                            .n_t = 5,
                            .args = &args};
    flatten(&pieces);
    for_pieces(&pieces, CPU_HEAVY);
}

/* One partial sum a segment, added up in their order; not flattened, so that the sum does not
 * depend on gaps. */
static void run_sum_squares(const struct pieces *p, int64_t row, int64_t col, int64_t n) {
    double *partial = (double *)p->args + (row * p->segments + col / SEGMENT);
    struct kern_sum_squares a = {
        .x = piece_at(p, 0, row, col), .x_type = p->t[0].dtype, .sum = partial};
    p->kern->sum_squares(&a, 0, n);
}

double cpu_sum_squares(struct stream *s, struct tensor t) {
    int64_t n = t.rows * ((t.cols + SEGMENT - 1) / SEGMENT);
    double *partial = cpu_scratch(s, (size_t)n * sizeof *partial), sum = 0;
    if (!partial) return NAN;
    struct pieces p = {
        .run = run_sum_squares, .kern = &cpu_of(s)->kern, .t = {t}, .n_t = 1, .args = partial};
    for_pieces(&p, CPU_LIGHT);
    for (int64_t i = 0; i < n; i++) sum += partial[i];
    return sum;
}
