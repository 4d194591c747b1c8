/* SPDX-License-Identifier: Apache-2.0 */
/* dora.c - a magnitude for each row of an adapted weight (Liu et al., DoRA, 2024, equation 5), on top of any low-rank
 * form:
 *     y = f * (W x + s Delta x'),   f_i = magnitude_i / || W_i + s Delta_i ||
 * The norm is a constant in the backward pass (section 4.3 of the paper), and follows the factors after each update:
 *     || W_i + b_i A ||^2 = || W_i ||^2 + 2 b_i . (A W_i) + b_i (A A^T) b_i^T
 * with b = s [dB | B0], A = [A ; dA] as the forward pass uses them, so that no m x n product is formed; || W_i ||^2 is
 * summed once, in f64 from the stored weight.  At step 0 b_i A is an exact 0 in every form, and the magnitude is
 * the root that be_norm_factor takes: f is 1 to the bit.  A row of zeros has magnitude 0: f is 1 until its factors
 * move, then 0.
 *
 * Backward: dz = f dy is what W and the factors get, and with u = W x + s Delta x'
 *     d magnitude_i = sum_t dy_ti u_ti / norm_i
 * As f u = y - addend - bias and f norm = magnitude, u_ti / norm_i = (y - addend - bias)_ti / magnitude_i: from the
 * output, which is there already. */
#include <math.h>

#include "adapt/delta.h"
#include "adapt/internal.h"
#include "core/mem.h"
#include "core/threads.h"

/* ---- squared norms of a stored weight's rows ---- */

struct square_job {
    const struct weight_view *w;
    int64_t workers;
    float *rows; /* one of w->cols for each worker */
    enum dtype real;
    void *out;
};

/* Eight sums side by side, in an order of their own: bits depend neither on the instruction set nor on threads. */
static double sum_squares(const float *x, int64_t n) {
    enum { SUMS = 8 };
    double sum[SUMS] = {0}, total = 0;
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (int k = 0; k < SUMS; k++) sum[k] += (double)x[i + k] * (double)x[i + k];
    for (; i < n; i++) sum[i % SUMS] += (double)x[i] * (double)x[i];
    for (int k = 0; k < SUMS; k++) total += sum[k];
    return total;
}

static void square_rows(void *ctx, int64_t begin, int64_t end) {
    const struct square_job *job = ctx;
    for (int64_t worker = begin; worker < end; worker++) {
        float *row = job->rows + worker * job->w->cols;
        for (int64_t i = worker; i < job->w->rows; i += job->workers) {
            weight_row_f32(job->w, i, row);
            double square = sum_squares(row, job->w->cols);
            if (job->real == DT_F64)
                ((double *)job->out)[i] = square;
            else
                ((float *)job->out)[i] = (float)square;
        }
    }
}

/* || W_i ||^2 of every row, in `real`, as a new array (mem_free). */
static enum mil_status row_squares(const struct weight_view *w, enum dtype real, void **out,
                                   struct mil_error *err) {
    struct square_job job = {.w = w, .workers = threads_count(), .real = real};
    size_t elements = (size_t)(job.workers * w->cols);
    *out = NULL;
    job.rows = mem_alloc(MEM_SCRATCH, elements, sizeof *job.rows);
    job.out = mem_alloc(MEM_SCRATCH, (size_t)w->rows, dtype_size(real));
    if (!job.rows || !job.out) {
        mem_free(job.rows);
        mem_free(job.out);
        return error_nomem(err, elements * sizeof *job.rows);
    }
    parallel_for(job.workers, 1, square_rows, &job);
    mem_free(job.rows);
    *out = job.out;
    return MIL_OK;
}

enum mil_status dora_start(struct delta *d, const struct checkpoint *base, struct mil_error *err) {
    void *squares;
    TRY(row_squares(checkpoint_module(base, d->layer, d->module), DT_F32, &squares, err));
    for (int64_t i = 0; i < d->m; i++) d->magnitude[i] = sqrtf(((const float *)squares)[i]);
    mem_free(squares);
    return MIL_OK;
}

enum mil_status dora_prepare(const struct delta_runtime *d, const struct weight_view *w,
                             struct backend *b, struct mil_error *err) {
    void *squares;
    TRY(row_squares(w, d->real, &squares, err));
    backend_upload(b, d->row_squares.data, squares, (size_t)d->m * dtype_size(d->real));
    mem_free(squares);
    return MIL_OK;
}

/* ---- the factor ---- */

static struct norm_factor lay_scratch(const struct delta_runtime *d, struct arena *a,
                                      struct tensor *half_gram) {
    *half_gram = tensor_take(a, d->act, d->k, d->k, "A A^T / 2");
    return (struct norm_factor){.f = d->factor,
                                .w = d->inverse,
                                .magnitude = d->magnitude,
                                .squares = d->row_squares,
                                .b = d->b,
                                .v = tensor_take(a, d->real, d->k, d->m, "A W^T + A A^T b^T / 2")};
}

size_t dora_scratch(const struct delta_runtime *d) {
    struct arena a;
    struct tensor half_gram;
    arena_init_sizing(&a, NULL, PLAN_SESSION);
    lay_scratch(d, &a, &half_gram);
    return a.used;
}

/* The change of a squared norm is 2 sum_i b_ij v_ij with v = A W^T + (A A^T / 2) b^T, one product of two terms. */
void dora_refresh(const struct delta_runtime *d, struct stream *s, void *scratch) {
    struct arena a = {.base = scratch, .cap = dora_scratch(d)};
    struct tensor half_gram, none = {0};
    struct norm_factor n = lay_scratch(d, &a, &half_gram);
    struct product_terms terms = {.n = 0};
    be_matmul(s, MATMUL_TRANS_B, 0.5, d->a, d->a, 0.0, half_gram);
    product_add(&terms, MATMUL_TRANS_B, d->a, *d->w);
    product_add(&terms, MATMUL_TRANS_B, half_gram, d->b);
    be_product(s, n.v, 1.0, &terms, 0.0, none, none);
    be_norm_factor(s, &n);
}

/* ---- the passes: those of the low-rank form, with the factor around ---- */

static void layout(const struct linear_adapter *a, struct arena *step, struct arena *call,
                   int64_t tokens, struct adapter_saved *saved) {
    delta_ops.layout(a, step, call, tokens, saved);
}

static void forward(const struct linear_adapter *a, const struct adapter_context *ctx,
                    struct tensor x, struct adapter_saved *saved, struct product_sum *y) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    delta_ops.forward(a, ctx, x, saved, y);
    y->f = d->factor;
}

static void before_factor(const struct linear_adapter *a, const struct adapter_context *ctx,
                          struct tensor dy, const struct module_output *out) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    const struct factor_grad g = {.dm = d->grad_magnitude, /* without data unless it trains */
                                  .dy = dy,
                                  .y = out->y,
                                  .d = out->addend,
                                  .e = out->bias,
                                  .f = d->factor,
                                  .w = d->inverse};
    be_factor_bwd(ctx->stream, &g);
}

static void backward(const struct linear_adapter *a, const struct adapter_context *ctx,
                     struct tensor x, struct tensor dy, const struct adapter_saved *saved,
                     struct product_terms *dx) {
    delta_ops.backward(a, ctx, x, dy, saved, dx);
}

const struct linear_adapter_ops dora_ops = {
    .layout = layout, .forward = forward, .before_factor = before_factor, .backward = backward};
