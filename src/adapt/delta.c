/* SPDX-License-Identifier: Apache-2.0 */
/* delta.c - the cancellation-free form of a low-rank change of a linear module.
 *
 * For rows x of X, x' = x after inverted dropout (mask' = m / (1 - p), x' = mask' * x), s = alpha/r:
 *     y += s ( dB (A x') + B0 (dA x' + A0 (x' - x)) ),      A = A0 + dA
 * which is s (B A x' - B0 A0 x) without the subtraction of nearly equal numbers
 * (docs/methods/delta-form.md).  By rows, with G = dY s[dB | B0] = [G1 | G2]:
 *     H1 = X' A^T          H2 = X' dA^T + (X' - X) A0^T          Y += [H1 | H2] (s[dB | B0])^T
 *     grad dB += s dY^T H1        grad dA += (G1 + G2)^T X'
 *     dX += mask' * (G1 A + G2 dA) + (mask' - 1) * (G2 A0)
 * Without dropout H = X [A ; dA]^T is one product.  Plain LoRA has only dB's term (k = r): H1, G1.
 * Dropout masks are a function of (seed, module, step, token), computed again in the backward pass.
 * H is summed in real and rounded to act once; so is G1 + G2. */
#include "adapt/delta.h"

#include "core/rng.h"

static bool drops(const struct delta_runtime *d, const struct adapter_context *ctx) {
    return ctx->training && d->dropout > 0;
}

static struct dropout_key key_of(const struct delta_runtime *d, const struct adapter_context *ctx) {
    return (struct dropout_key){ctx->seed, rng_stream(RNG_DROPOUT, d->number), ctx->step,
                                d->dropout};
}

/* ---- buffers ---- */

/* Scratch of a backward call; a forward call uses the first two. */
struct scratch {
    struct tensor x;   /* act [T, n], X' or X' - X; with dropout only */
    struct tensor sum; /* real [T, k], H or G before rounding */
    struct tensor g;   /* act [T, k] */
    struct tensor g12; /* act [T, r], G1 + G2; with B0 only */
    struct tensor dx;  /* real [T, n], before the mask; with dropout only */
};

static struct scratch take_scratch(const struct delta_runtime *d, struct arena *call, int64_t t,
                                   bool dropped, bool backward) {
    struct scratch s = {0};
    if (dropped) s.x = tensor_take(call, d->act, t, d->n, "adapter: dropped input");
    if (dropped || backward) s.sum = tensor_take(call, d->real, t, d->k, "adapter: sums");
    if (!backward) return s;
    s.g = tensor_take(call, d->act, t, d->k, "adapter: gradient of H");
    if (d->k > d->r) s.g12 = tensor_take(call, d->act, t, d->r, "adapter: gradient sum");
    if (dropped) s.dx = tensor_take(call, d->real, t, d->n, "adapter: input gradient");
    return s;
}

static void layout(const struct linear_adapter *a, struct arena *step, struct arena *call,
                   int64_t tokens, struct adapter_saved *saved) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    saved->t[0] = tensor_take(step, d->act, tokens, d->k, "adapter: H");
    take_scratch(d, call, tokens, d->dropout > 0, true);
}

/* The buffer of layout may have more rows than this call. */
static struct tensor saved_h(const struct adapter_saved *saved, int64_t tokens) {
    return tensor_rows(saved->t[0], 0, tokens);
}

/* ---- forward ---- */

/* H from the dropped input. */
static void hidden_dropped(const struct delta_runtime *d, const struct adapter_context *ctx,
                           struct tensor x, struct tensor h) {
    struct stream *s = ctx->stream;
    struct dropout_key key = key_of(d, ctx);
    struct scratch t = take_scratch(d, ctx->call, x.rows, true, false);
    be_dropout(s, t.x, x, &key, ctx->row_key, false, false);
    be_matmul(s, MATMUL_TRANS_B, 1.0, t.x, d->a, 0.0, t.sum);
    if (d->k > d->r) {
        be_dropout(s, t.x, x, &key, ctx->row_key, true, false);
        be_matmul(s, MATMUL_TRANS_B, 1.0, t.x, d->a0_act, 1.0, tensor_cols(t.sum, d->r, d->r));
    }
    be_copy(s, h, t.sum);
}

static void forward(const struct linear_adapter *a, const struct adapter_context *ctx,
                    struct tensor x, struct tensor y, struct adapter_saved *saved) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    struct tensor h = saved_h(saved, x.rows);
    size_t mark = arena_mark(ctx->call);
    if (drops(d, ctx))
        hidden_dropped(d, ctx, x, h);
    else
        be_matmul(ctx->stream, MATMUL_TRANS_B, 1.0, x, d->a, 0.0, h);
    be_matmul(ctx->stream, MATMUL_TRANS_B, 1.0, h, d->b, 1.0, y);
    arena_rewind(ctx->call, mark);
}

/* ---- backward ---- */

/* grad dB += s dY^T H1, grad dA += (G1 + G2)^T X'.  t->sum holds G. */
static void parameter_gradients(const struct delta_runtime *d, struct stream *s,
                                struct tensor x_used, struct tensor dy, struct tensor h,
                                const struct scratch *t) {
    be_matmul(s, MATMUL_TRANS_A, d->scale, dy, tensor_cols(h, 0, d->r), 1.0, d->grad_db);
    if (d->k == d->r) {
        be_matmul(s, MATMUL_TRANS_A, 1.0, t->g, x_used, 1.0, d->grad_da);
        return;
    }
    struct tensor g1 = tensor_cols(t->sum, 0, d->r);
    be_axpy(s, g1, 1.0, tensor_cols(t->sum, d->r, d->r));
    be_copy(s, t->g12, g1);
    be_matmul(s, MATMUL_TRANS_A, 1.0, t->g12, x_used, 1.0, d->grad_da);
}

/* dX += mask' * (G1 A + G2 dA) + (mask' - 1) * (G2 A0). */
static void input_gradient_dropped(const struct delta_runtime *d, const struct adapter_context *ctx,
                                   struct tensor dx, const struct scratch *t) {
    struct stream *s = ctx->stream;
    struct dropout_key key = key_of(d, ctx);
    be_matmul(s, 0, 1.0, t->g, d->a, 0.0, t->dx);
    be_dropout(s, dx, t->dx, &key, ctx->row_key, false, true);
    if (d->k == d->r) return;
    be_matmul(s, 0, 1.0, tensor_cols(t->g, d->r, d->r), d->a0_act, 0.0, t->dx);
    be_dropout(s, dx, t->dx, &key, ctx->row_key, true, true);
}

static void backward(const struct linear_adapter *a, const struct adapter_context *ctx,
                     struct tensor x, struct tensor dy, struct tensor dx,
                     const struct adapter_saved *saved) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    struct stream *s = ctx->stream;
    struct dropout_key key = key_of(d, ctx);
    bool dropped = drops(d, ctx);
    size_t mark = arena_mark(ctx->call);
    struct scratch t = take_scratch(d, ctx->call, x.rows, dropped, true);
    be_matmul(s, 0, 1.0, dy, d->b, 0.0, t.sum);
    be_copy(s, t.g, t.sum);
    if (tensor_present(dx) && dropped) input_gradient_dropped(d, ctx, dx, &t);
    if (tensor_present(dx) && !dropped) be_matmul(s, 0, 1.0, t.g, d->a, 1.0, dx);
    if (d->trainable) {
        if (dropped) be_dropout(s, t.x, x, &key, ctx->row_key, false, false);
        parameter_gradients(d, s, dropped ? t.x : x, dy, saved_h(saved, x.rows), &t);
    }
    arena_rewind(ctx->call, mark);
}

const struct linear_adapter_ops delta_ops = {layout, forward, backward};

/* ---- compute copies ---- */

void delta_refresh(const struct delta_runtime *d, struct stream *s, struct tensor sum) {
    struct tensor a = tensor_rows(d->a, 0, d->r);
    struct tensor to =
        d->act == d->real ? a : tensor_of(sum.data, d->real, d->r, d->n); /* round the sum once */
    be_copy(s, to, d->a0);
    be_axpy(s, to, 1.0, d->da);
    if (d->act != d->real) be_copy(s, a, to);
    if (d->k > d->r) be_copy(s, tensor_rows(d->a, d->r, d->r), d->da);
    be_scale_copy(s, tensor_cols(d->b, 0, d->r), d->db, d->scale);
}

void delta_refresh_frozen(const struct delta_runtime *d, struct stream *s) {
    if (d->k > d->r) be_scale_copy(s, tensor_cols(d->b, d->r, d->r), d->b0, d->scale);
    if (tensor_present(d->a0_act)) be_copy(s, d->a0_act, d->a0);
}
