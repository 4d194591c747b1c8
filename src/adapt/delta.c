/* SPDX-License-Identifier: Apache-2.0 */
/* delta.c - the cancellation-free form of a low-rank change of a linear module.
 *
 * For rows x of X, x' = x after inverted dropout (mask' = m / (1 - p), x' = mask' * x), s = alpha/r:
 *     y += s ( dB (A x') + B0 (dA x' + A0 (x' - x)) ),      A = A0 + dA
 * which is s (B A x' - B0 A0 x) without the subtraction of nearly equal numbers
 * (docs/methods/delta-form.md).  By rows, with G = dY s[dB | B0] = [G1 | G2]:
 *     H1 = X' A^T          H2 = X' dA^T + (X' - X) A0^T          Y += [H1 | H2] (s[dB | B0])^T
 *     grad dB += s dY^T H1        grad dA += (G1 + G2)^T X'
 *     dX += G1 A + G2 dA;  with dropout:  mask' * ((G1 + G2) A) - G2 A0
 * Without dropout H = X [A ; dA]^T is one product.  The other forms have one term of r columns, H1 and G1: plain LoRA
 * dB's, FIXED_B s B0 (dA x') with no gradient of B0, SCALED that of dB diag(e).
 * (With dropout dX holds a difference of two numbers that need not be close, and its error, 2^-9 of the smaller,
 * is below that of dY W, whose operand was rounded too.)
 * Dropout masks are a function of (seed, module, step, token); the forward pass leaves them as bits.
 * H, G and G1 + G2 are summed in real and rounded to act once; what goes to Y and dX are terms of the products
 * with W, not rounded by themselves. */
#include "adapt/delta.h"

#include "core/rng.h"

static bool drops(const struct delta_runtime *d, const struct adapter_context *ctx) {
    return ctx->training && d->dropout > 0;
}

/* Both terms: H2 exists beside H1, B0 beside dB. */
static bool is_pair(const struct delta_runtime *d) {
    return d->form == DELTA_PAIR;
}

/* ---- buffers ---- */

/* Scratch of a backward call that its terms read. */
struct lasting {
    struct tensor g;   /* act [T, k], G; or, with dropout and B0, -G2 in [T, r] */
    struct tensor g12; /* act [T, r], G1 + G2; with B0 only */
};

static struct lasting take_lasting(const struct delta_runtime *d, struct arena *call, int64_t t,
                                   bool dropped) {
    struct lasting l = {0};
    l.g =
        tensor_take(call, d->act, t, dropped && is_pair(d) ? d->r : d->k, "adapter: gradient of H");
    if (is_pair(d)) l.g12 = tensor_take(call, d->act, t, d->r, "adapter: gradient sum");
    return l;
}
static struct tensor take_kept(const struct delta_runtime *d, struct arena *call, int64_t t) {
    return tensor_take(call, d->act, t, d->n, "adapter: dropped input");
}
/* X' - X. */
static struct tensor take_change(const struct delta_runtime *d, struct arena *call, int64_t t) {
    struct tensor none = {0};
    return is_pair(d) ? tensor_take(call, d->act, t, d->n, "adapter: input's change") : none;
}
/* G before it is rounded. */
static struct tensor take_sum(const struct delta_runtime *d, struct arena *call, int64_t t) {
    struct tensor none = {0};
    return is_pair(d) ? tensor_take(call, d->real, t, d->k, "adapter: sums") : none;
}

static void layout(const struct linear_adapter *a, struct arena *step, struct arena *call,
                   int64_t tokens, struct adapter_saved *saved) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    bool dropped = d->dropout > 0;
    saved->t[0] = tensor_take(step, d->act, tokens, d->k, "adapter: H");
    if (dropped)
        saved->t[1] =
            tensor_take(step, DT_U8, tokens, dropout_mask_bytes(d->n), "adapter: dropout mask");
    take_lasting(d, call, tokens, dropped);
    size_t mark = arena_mark(call);
    if (dropped) { /* forward */
        take_kept(d, call, tokens);
        take_change(d, call, tokens);
        arena_rewind(call, mark);
        take_kept(d, call, tokens); /* backward */
    }
    take_sum(d, call, tokens);
    arena_rewind(call, mark);
}

/* The buffer of layout may have more rows than this call. */
static struct tensor saved_h(const struct adapter_saved *saved, int64_t tokens) {
    return tensor_rows(saved->t[0], 0, tokens);
}

static struct tensor saved_mask(const struct adapter_saved *saved, int64_t tokens) {
    return tensor_rows(saved->t[1], 0, tokens);
}

/* ---- forward ---- */

/* H from the dropped input. */
static void hidden_dropped(const struct delta_runtime *d, const struct adapter_context *ctx,
                           struct tensor x, struct tensor h, struct tensor mask) {
    struct dropout_key key = {ctx->seed, rng_stream(RNG_DROPOUT, d->number), ctx->step, d->dropout};
    struct product_terms second = {.n = 0};
    struct tensor none = {0}, kept = take_kept(d, ctx->call, x.rows),
                  change = take_change(d, ctx->call, x.rows);
    be_dropout_mask(ctx->stream, mask, d->n, &key, ctx->row_key);
    be_dropout_apply(ctx->stream, kept, change, x, mask, d->dropout);
    be_matmul(ctx->stream, MATMUL_TRANS_B, 1.0, kept, tensor_rows(d->a, 0, d->r), 0.0,
              tensor_cols(h, 0, d->r));
    if (!is_pair(d)) return;
    product_add(&second, MATMUL_TRANS_B, kept, tensor_rows(d->a, d->r, d->r));
    product_add(&second, MATMUL_TRANS_B, change, d->a0_act);
    be_product(ctx->stream, tensor_cols(h, d->r, d->r), 1.0, &second, 0.0, none, none);
}

static void forward(const struct linear_adapter *a, const struct adapter_context *ctx,
                    struct tensor x, struct adapter_saved *saved, struct product_sum *y) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    struct tensor h = saved_h(saved, x.rows);
    size_t mark = arena_mark(ctx->call);
    if (drops(d, ctx))
        hidden_dropped(d, ctx, x, h, saved_mask(saved, x.rows));
    else
        be_matmul(ctx->stream, MATMUL_TRANS_B, 1.0, x, d->a, 0.0, h);
    arena_rewind(ctx->call, mark);
    product_add(&y->terms, MATMUL_TRANS_B, h, d->b);
}

/* ---- backward ---- */

static void gradient_of_h(const struct delta_runtime *d, const struct adapter_context *ctx,
                          struct tensor dy, bool dropped, const struct lasting *l) {
    struct stream *s = ctx->stream;
    if (!is_pair(d)) {
        be_matmul(s, 0, 1.0, dy, d->b, 0.0, l->g);
        return;
    }
    struct tensor sum = take_sum(d, ctx->call, dy.rows);
    struct tensor g1 = tensor_cols(sum, 0, d->r), g2 = tensor_cols(sum, d->r, d->r);
    be_matmul(s, 0, 1.0, dy, d->b, 0.0, sum);
    if (dropped)
        be_scale_copy(s, l->g, g2, -1.0);
    else
        be_copy(s, l->g, sum);
    be_axpy(s, g1, 1.0, g2);
    be_copy(s, l->g12, g1);
}

static void input_terms(const struct delta_runtime *d, const struct lasting *l, bool dropped,
                        struct tensor mask, struct product_terms *dx) {
    bool both = dropped && is_pair(d);
    struct product_term *t =
        product_add(dx, 0, both ? l->g12 : l->g, both ? tensor_rows(d->a, 0, d->r) : d->a);
    if (!dropped) return;
    t->mask = mask;
    t->p = d->dropout;
    if (both) product_add(dx, 0, l->g, d->a0_act);
}

static void backward(const struct linear_adapter *a, const struct adapter_context *ctx,
                     struct tensor x, struct tensor dy, const struct adapter_saved *saved,
                     struct product_terms *dx) {
    const struct delta_runtime *d = (const struct delta_runtime *)a;
    struct stream *s = ctx->stream;
    struct tensor none = {0}, used = x, h = saved_h(saved, dy.rows);
    bool dropped = drops(d, ctx);
    struct tensor mask = dropped ? saved_mask(saved, dy.rows) : none;
    struct lasting l = take_lasting(d, ctx->call, dy.rows, dropped);
    size_t mark = arena_mark(ctx->call);
    gradient_of_h(d, ctx, dy, dropped, &l);
    if (dx) input_terms(d, &l, dropped, mask, dx);
    if (d->trainable) {
        if (dropped) {
            used = take_kept(d, ctx->call, x.rows);
            be_dropout_apply(s, used, none, x, mask, d->dropout);
        }
        if (d->form != DELTA_FIXED_B)
            be_matmul(s, MATMUL_TRANS_A, d->scale, dy, tensor_cols(h, 0, d->r), 1.0, d->grad_db);
        be_matmul(s, MATMUL_TRANS_A, 1.0, is_pair(d) ? l.g12 : l.g, used, 1.0, d->grad_da);
    }
    arena_rewind(ctx->call, mark);
}

const struct linear_adapter_ops delta_ops = {
    .layout = layout, .forward = forward, .backward = backward};

/* ---- compute copies ---- */

/* a = A0 + dA, rounded once. */
static void refresh_a(const struct delta_runtime *d, struct stream *s, struct tensor sum) {
    struct tensor a = tensor_rows(d->a, 0, d->r);
    if (d->form == DELTA_FIXED_B) {
        be_copy(s, a, d->da);
        return;
    }
    struct tensor to = d->act == d->real ? a : tensor_of(sum.data, d->real, d->r, d->n);
    be_copy(s, to, d->a0);
    be_axpy(s, to, 1.0, d->da);
    if (d->act != d->real) be_copy(s, a, to);
    if (is_pair(d)) be_copy(s, tensor_rows(d->a, d->r, d->r), d->da);
}

void delta_refresh_b(const struct delta_runtime *d, struct stream *s, struct tensor sum) {
    if (d->form == DELTA_SCALED) {
        struct tensor scaled = tensor_of(sum.data, d->real, d->m, d->r);
        be_scale_cols(s, scaled, d->db, d->e);
        be_scale_copy(s, d->b, scaled, d->scale);
    } else if (d->form != DELTA_FIXED_B) {
        be_scale_copy(s, tensor_cols(d->b, 0, d->r), d->db, d->scale);
    }
}

void delta_refresh(const struct delta_runtime *d, struct stream *s, struct tensor sum) {
    refresh_a(d, s, sum);
    delta_refresh_b(d, s, sum);
}

void delta_refresh_frozen(const struct delta_runtime *d, struct stream *s) {
    if (is_pair(d)) be_scale_copy(s, tensor_cols(d->b, d->r, d->r), d->b0, d->scale);
    if (d->form == DELTA_FIXED_B) be_scale_copy(s, d->b, d->b0, d->scale);
    if (tensor_present(d->a0_act)) be_copy(s, d->a0_act, d->a0);
}
