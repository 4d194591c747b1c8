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
 * H, G and G1 + G2 are summed in real and rounded to act once; what goes to Y and dX are terms of the products
 * with W, not rounded by themselves. */
#include "adapt/delta.h"

#include "core/rng.h"

static bool drops(const struct delta_runtime *d, const struct adapter_context *ctx) {
    return ctx->training && d->dropout > 0;
}

static bool has_b0(const struct delta_runtime *d) {
    return d->k > d->r;
}

/* ---- buffers ---- */

/* Scratch of a call, in two parts: what the terms read, and what is free once they are appended. */
struct scratch {
    struct tensor mask;   /* U8 [T, mask bytes of n]; with dropout only */
    struct tensor g;      /* act [T, k]; backward */
    struct tensor kept;   /* act [T, n], X'; with dropout only */
    struct tensor change; /* act [T, n], X' - X; forward, with dropout and B0 only */
    struct tensor sum;    /* real [T, k], G before rounding; backward, with B0 only */
    struct tensor g12;    /* act [T, r], G1 + G2; backward, with B0 only */
};

static void take_lasting(const struct delta_runtime *d, struct arena *call, int64_t t, bool dropped,
                         struct scratch *s) {
    *s = (struct scratch){0};
    s->g = tensor_take(call, d->act, t, d->k, "adapter: gradient of H");
    if (dropped)
        s->mask = tensor_take(call, DT_U8, t, dropout_mask_bytes(d->n), "adapter: dropout mask");
}

static void take_forward(const struct delta_runtime *d, struct arena *call, int64_t t,
                         struct scratch *s) {
    s->kept = tensor_take(call, d->act, t, d->n, "adapter: dropped input");
    if (has_b0(d)) s->change = tensor_take(call, d->act, t, d->n, "adapter: input's change");
}

static void take_backward(const struct delta_runtime *d, struct arena *call, int64_t t,
                          bool dropped, struct scratch *s) {
    if (has_b0(d)) {
        s->sum = tensor_take(call, d->real, t, d->k, "adapter: sums");
        s->g12 = tensor_take(call, d->act, t, d->r, "adapter: gradient sum");
    }
    if (dropped) s->kept = tensor_take(call, d->act, t, d->n, "adapter: dropped input");
}

static void layout(const struct linear_adapter *a, struct arena *step, struct arena *call,
                   int64_t tokens, struct adapter_saved *saved) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    struct scratch s;
    saved->t[0] = tensor_take(step, d->act, tokens, d->k, "adapter: H");
    take_lasting(d, call, tokens, d->dropout > 0, &s);
    size_t mark = arena_mark(call);
    if (d->dropout > 0) take_forward(d, call, tokens, &s);
    arena_rewind(call, mark);
    take_backward(d, call, tokens, d->dropout > 0, &s);
    arena_rewind(call, mark);
}

/* The buffer of layout may have more rows than this call. */
static struct tensor saved_h(const struct adapter_saved *saved, int64_t tokens) {
    return tensor_rows(saved->t[0], 0, tokens);
}

static void draw_mask(const struct delta_runtime *d, const struct adapter_context *ctx,
                      struct tensor mask) {
    struct dropout_key key = {ctx->seed, rng_stream(RNG_DROPOUT, d->number), ctx->step, d->dropout};
    be_dropout_mask(ctx->stream, mask, d->n, &key, ctx->row_key);
}

/* ---- forward ---- */

/* H from the dropped input. */
static void hidden_dropped(const struct delta_runtime *d, const struct adapter_context *ctx,
                           struct tensor x, struct tensor h) {
    struct product_terms second = {.n = 0};
    struct tensor none = {0};
    struct scratch s;
    take_lasting(d, ctx->call, x.rows, true, &s);
    take_forward(d, ctx->call, x.rows, &s);
    draw_mask(d, ctx, s.mask);
    be_dropout_apply(ctx->stream, s.kept, s.change, x, s.mask, d->dropout);
    be_matmul(ctx->stream, MATMUL_TRANS_B, 1.0, s.kept, tensor_rows(d->a, 0, d->r), 0.0,
              tensor_cols(h, 0, d->r));
    if (!has_b0(d)) return;
    product_add(&second, MATMUL_TRANS_B, s.kept, tensor_rows(d->a, d->r, d->r));
    product_add(&second, MATMUL_TRANS_B, s.change, d->a0_act);
    be_product(ctx->stream, tensor_cols(h, d->r, d->r), 1.0, &second, 0.0, none, none);
}

static void forward(const struct linear_adapter *a, const struct adapter_context *ctx,
                    struct tensor x, struct adapter_saved *saved, struct product_terms *y) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    struct tensor h = saved_h(saved, x.rows);
    if (drops(d, ctx))
        hidden_dropped(d, ctx, x, h);
    else
        be_matmul(ctx->stream, MATMUL_TRANS_B, 1.0, x, d->a, 0.0, h);
    product_add(y, MATMUL_TRANS_B, h, d->b);
}

/* ---- backward ---- */

/* g = G, g12 = G1 + G2. */
static void gradient_of_h(const struct delta_runtime *d, struct stream *s, struct tensor dy,
                          const struct scratch *t) {
    if (!has_b0(d)) {
        be_matmul(s, 0, 1.0, dy, d->b, 0.0, t->g);
        return;
    }
    be_matmul(s, 0, 1.0, dy, d->b, 0.0, t->sum);
    be_copy(s, t->g, t->sum);
    if (!d->trainable) return;
    be_axpy(s, tensor_cols(t->sum, 0, d->r), 1.0, tensor_cols(t->sum, d->r, d->r));
    be_copy(s, t->g12, tensor_cols(t->sum, 0, d->r));
}

/* dX's terms. */
static void input_terms(const struct delta_runtime *d, const struct scratch *t,
                        struct product_terms *dx) {
    struct product_term *all = product_add(dx, 0, t->g, d->a);
    all->mask = t->mask;
    all->p = d->dropout;
    if (!tensor_present(t->mask) || !has_b0(d)) return;
    struct product_term *frozen = product_add(dx, 0, tensor_cols(t->g, d->r, d->r), d->a0_act);
    frozen->mask = t->mask;
    frozen->p = d->dropout;
    frozen->change = true;
}

/* grad dB += s dY^T H1, grad dA += (G1 + G2)^T X'. */
static void parameter_gradients(const struct delta_runtime *d, struct stream *s, struct tensor used,
                                struct tensor dy, struct tensor h, const struct scratch *t) {
    be_matmul(s, MATMUL_TRANS_A, d->scale, dy, tensor_cols(h, 0, d->r), 1.0, d->grad_db);
    be_matmul(s, MATMUL_TRANS_A, 1.0, has_b0(d) ? t->g12 : t->g, used, 1.0, d->grad_da);
}

static void backward(const struct linear_adapter *a, const struct adapter_context *ctx,
                     struct tensor x, struct tensor dy, const struct adapter_saved *saved,
                     struct product_terms *dx) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    bool dropped = drops(d, ctx);
    struct scratch t;
    take_lasting(d, ctx->call, dy.rows, dropped, &t);
    size_t mark = arena_mark(ctx->call);
    take_backward(d, ctx->call, dy.rows, dropped, &t);
    gradient_of_h(d, ctx->stream, dy, &t);
    if (dropped) draw_mask(d, ctx, t.mask);
    if (dx) input_terms(d, &t, dx);
    if (d->trainable) {
        struct tensor none = {0};
        if (dropped) be_dropout_apply(ctx->stream, t.kept, none, x, t.mask, d->dropout);
        parameter_gradients(d, ctx->stream, dropped ? t.kept : x, dy, saved_h(saved, dy.rows), &t);
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
