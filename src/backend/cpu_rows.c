/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_rows.c - operations on rows: gather and scatter, normalisation, rotary embedding, the loss.
 * Sums over rows (weight and bias gradients) are cut by columns, so that each sum is made by one
 * thread in the order of the rows. */
#include "backend/cpu.h"
#include "core/threads.h"

/* Columns of a chunk of a sum over rows: all, where there is little to do. */
enum { COLUMNS = 64 };
static int64_t column_grain(int64_t rows, int64_t cols) {
    return rows * cols < CPU_LIGHT ? cols : COLUMNS;
}

/* ---- gather, scatter ---- */

struct rows_call {
    const struct kern *kern;
    struct tensor dst, src;
    const int32_t *index;
    bool accumulate;
};

static void copy_row(const struct rows_call *c, int64_t to, int64_t from, int64_t col, int64_t n) {
    struct kern_map a = {.y = tensor_at(c->dst, to, col),
                         .x = tensor_at(c->src, from, col),
                         .y_type = c->dst.dtype,
                         .x_type = c->src.dtype,
                         .scale = 1.0,
                         .accumulate = c->accumulate};
    c->kern->map(&a, 0, n);
}

static void gather(void *ctx, int64_t begin, int64_t end) {
    const struct rows_call *c = ctx;
    for (int64_t i = begin; i < end; i++) copy_row(c, i, c->index[i], 0, c->dst.cols);
}
static void scatter(void *ctx, int64_t begin, int64_t end) {
    const struct rows_call *c = ctx;
    for (int64_t i = begin; i < end; i++) copy_row(c, c->index[i], i, 0, c->dst.cols);
}
/* All rows in order, for columns [begin, end): repeated indices never race. */
static void scatter_add(void *ctx, int64_t begin, int64_t end) {
    const struct rows_call *c = ctx;
    for (int64_t i = 0; i < c->src.rows; i++) copy_row(c, c->index[i], i, begin, end - begin);
}

void cpu_gather_rows(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index) {
    struct rows_call c = {&cpu_of(s)->kern, dst, src, index, false};
    if (dtype_block_elems(src.dtype) > 1) {
        cpu_gather_blocks(s, dst, src, index);
        return;
    }
    parallel_for(dst.rows, cpu_grain(dst.rows, dst.cols, CPU_LIGHT), gather, &c);
}

void cpu_scatter_rows(struct stream *s, struct tensor dst, struct tensor src, const int32_t *index,
                      bool accumulate) {
    struct rows_call c = {&cpu_of(s)->kern, dst, src, index, accumulate};
    if (accumulate)
        parallel_for(src.cols, column_grain(src.rows, src.cols), scatter_add, &c);
    else
        parallel_for(src.rows, cpu_grain(src.rows, src.cols, CPU_LIGHT), scatter, &c);
}

/* ---- kernels whose range is rows or columns ---- */

/* Each call below: the kernel's arguments, and the loop body that passes its range on. */

struct rmsnorm_call {
    const struct kern *kern;
    struct kern_rmsnorm a;
};
static void rmsnorm_fwd(void *ctx, int64_t begin, int64_t end) {
    const struct rmsnorm_call *c = ctx;
    c->kern->rmsnorm_fwd(&c->a, begin, end);
}
static void rmsnorm_bwd(void *ctx, int64_t begin, int64_t end) {
    const struct rmsnorm_call *c = ctx;
    c->kern->rmsnorm_bwd(&c->a, begin, end);
}
static void rmsnorm_bwd_w(void *ctx, int64_t begin, int64_t end) {
    const struct rmsnorm_call *c = ctx;
    c->kern->rmsnorm_bwd_w(&c->a, begin, end);
}

void cpu_rmsnorm_fwd(struct stream *s, struct tensor y, struct tensor rstd, struct tensor x,
                     struct tensor w, double eps) {
    struct rmsnorm_call c = {&cpu_of(s)->kern,
                             {.x = x.data,
                              .w = w.data,
                              .y = y.data,
                              .rstd = rstd.data,
                              .rows = x.rows,
                              .cols = x.cols,
                              .ldx = x.ld,
                              .ldy = y.ld,
                              .ld_rstd = rstd.ld,
                              .eps = eps}};
    parallel_for(x.rows, cpu_grain(x.rows, x.cols, CPU_LIGHT), rmsnorm_fwd, &c);
}

void cpu_rmsnorm_bwd(struct stream *s, struct tensor dx, struct tensor dw, struct tensor dy,
                     struct tensor x, struct tensor w, struct tensor rstd) {
    struct rmsnorm_call c = {&cpu_of(s)->kern,
                             {.x = x.data,
                              .w = w.data,
                              .rstd = rstd.data,
                              .dy = dy.data,
                              .dx = dx.data,
                              .dw = dw.data,
                              .dy_type = dy.dtype,
                              .rows = x.rows,
                              .cols = x.cols,
                              .ldx = x.ld,
                              .ld_rstd = rstd.ld,
                              .ld_dy = dy.ld,
                              .ld_dx = dx.ld}};
    parallel_for(x.rows, cpu_grain(x.rows, x.cols, CPU_LIGHT), rmsnorm_bwd, &c);
    if (dw.data) parallel_for(x.cols, column_grain(x.rows, x.cols), rmsnorm_bwd_w, &c);
}

struct rope_call {
    const struct kern *kern;
    struct kern_rope a;
};
static void rope(void *ctx, int64_t begin, int64_t end) {
    const struct rope_call *c = ctx;
    c->kern->rope(&c->a, begin, end);
}

void cpu_rope(struct stream *s, struct tensor x, struct tensor table, const int32_t *position,
              int64_t head_dim, bool inverse) {
    struct rope_call c = {&cpu_of(s)->kern,
                          {.x = x.data,
                           .table = table.data,
                           .position = position,
                           .ldx = x.ld,
                           .ld_table = table.ld,
                           .heads = x.cols / head_dim,
                           .head_dim = head_dim,
                           .inverse = inverse}};
    parallel_for(x.rows, cpu_grain(x.rows, x.cols, CPU_LIGHT), rope, &c);
}

struct bias_grad_call {
    const struct kern *kern;
    struct kern_bias_grad a;
};
static void bias_grad(void *ctx, int64_t begin, int64_t end) {
    const struct bias_grad_call *c = ctx;
    c->kern->bias_grad(&c->a, begin, end);
}

void cpu_bias_grad(struct stream *s, struct tensor db, struct tensor dy) {
    struct bias_grad_call c = {
        &cpu_of(s)->kern,
        {.db = db.data, .dy = dy.data, .dy_type = dy.dtype, .rows = dy.rows, .ld_dy = dy.ld}};
    parallel_for(dy.cols, column_grain(dy.rows, dy.cols), bias_grad, &c);
}

struct col_dots_call {
    const struct kern *kern;
    struct kern_col_dots a;
};
static void col_dots(void *ctx, int64_t begin, int64_t end) {
    const struct col_dots_call *c = ctx;
    c->kern->col_dots(&c->a, begin, end);
}

void cpu_col_dots(struct stream *s, struct tensor out, double scale, struct tensor a,
                  struct tensor b) {
    struct col_dots_call c = {&cpu_of(s)->kern,
                              {.out = out.data,
                               .a = a.data,
                               .b = b.data,
                               .a_type = a.dtype,
                               .b_type = b.dtype,
                               .rows = a.rows,
                               .ld_a = a.ld,
                               .ld_b = b.ld,
                               .scale = scale}};
    parallel_for(a.cols, column_grain(a.rows, a.cols), col_dots, &c);
}

struct factor_call {
    const struct kern *kern;
    struct kern_factor_bwd a;
};
static void factor_bwd(void *ctx, int64_t begin, int64_t end) {
    const struct factor_call *c = ctx;
    c->kern->factor_bwd(&c->a, begin, end);
}

void cpu_factor_bwd(struct stream *s, const struct factor_grad *g) {
    enum { WIDE_COLUMNS = 192 }; /* memory in longer runs */
    int64_t grain = column_grain(g->dy.rows, g->dy.cols);
    struct factor_call c = {&cpu_of(s)->kern,
                            {.out = g->dm.data,
                             .g = g->dy.data,
                             .y = g->y.data,
                             .d = g->d.data,
                             .e = g->e.data,
                             .f = g->f.data,
                             .w = g->w.data,
                             .y_type = g->y.dtype,
                             .d_type = g->d.dtype,
                             .e_type = g->e.dtype,
                             .rows = g->dy.rows,
                             .ld_g = g->dy.ld,
                             .ld_y = g->y.ld,
                             .ld_d = g->d.ld}};
    parallel_for(g->dy.cols, grain == COLUMNS ? WIDE_COLUMNS : grain, factor_bwd, &c);
}

struct norm_call {
    const struct kern *kern;
    struct kern_norm_factor a;
};
static void norm_factor(void *ctx, int64_t begin, int64_t end) {
    const struct norm_call *c = ctx;
    c->kern->norm_factor(&c->a, begin, end);
}

void cpu_norm_factor(struct stream *s, const struct norm_factor *n) {
    struct norm_call c = {&cpu_of(s)->kern,
                          {.f = n->f.data,
                           .w = n->w.data,
                           .magnitude = n->magnitude.data,
                           .squares = n->squares.data,
                           .v = n->v.data,
                           .b = n->b.data,
                           .k = n->v.rows,
                           .ld_v = n->v.ld,
                           .ld_b = n->b.ld}};
    parallel_for(n->f.cols, column_grain(n->v.rows, n->f.cols), norm_factor, &c);
}

struct cross_entropy_call {
    const struct kern *kern;
    struct kern_cross_entropy a;
};
static void cross_entropy(void *ctx, int64_t begin, int64_t end) {
    const struct cross_entropy_call *c = ctx;
    c->kern->cross_entropy(&c->a, begin, end);
}

void cpu_cross_entropy(struct stream *s, struct tensor loss, struct tensor dlogits,
                       struct tensor logits, const int32_t *label, double scale) {
    struct cross_entropy_call c = {&cpu_of(s)->kern,
                                   {.logits = logits.data,
                                    .loss = loss.data,
                                    .dlogits = dlogits.data,
                                    .label = label,
                                    .cols = logits.cols,
                                    .ld_logits = logits.ld,
                                    .ld_loss = loss.ld,
                                    .ld_dlogits = dlogits.ld,
                                    .scale = scale}};
    parallel_for(logits.rows, cpu_grain(logits.rows, logits.cols, CPU_HEAVY), cross_entropy, &c);
}
