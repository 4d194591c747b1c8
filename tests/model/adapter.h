/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.h - a small adapter behind the model's hook, for the tests of src/model alone:
 *     y += 0.5 B (A x'),  x' = dropout(x),  rank 3,  A, B real. */
#ifndef MIL_TESTS_MODEL_ADAPTER_H
#define MIL_TESTS_MODEL_ADAPTER_H

#include "model/support.h"

enum { ADAPTER_RANK = 3 };

struct test_adapter {
    struct linear_adapter base;
    struct tensor a, b, da, db; /* real [r, n], [m, r] and their gradients */
    struct dropout_key key;
};

static inline struct tensor take_real(const struct test_adapter *a, struct arena *arena,
                                      int64_t rows, int64_t cols) {
    return tensor_take(arena, a->a.dtype, rows, cols, "test adapter");
}

static inline struct tensor take_mask(const struct test_adapter *a, struct arena *arena,
                                      int64_t rows) {
    return tensor_take(arena, DT_U8, rows, dropout_mask_bytes(a->a.cols), "test adapter");
}

/* Saved: x' [T, n] and 0.5 A x' [T, r]; scratch that lasts: the gradient of the latter, the mask. */
static inline void test_adapter_layout(const struct linear_adapter *base, struct arena *step,
                                       struct arena *call, int64_t tokens,
                                       struct adapter_saved *saved) {
    const struct test_adapter *a = (const struct test_adapter *)base;
    saved->t[0] = take_real(a, step, tokens, a->a.cols);
    saved->t[1] = take_real(a, step, tokens, a->a.rows);
    take_real(a, call, tokens, a->a.rows);
    take_mask(a, call, tokens);
}

static inline struct tensor draw_mask(const struct test_adapter *a,
                                      const struct adapter_context *ctx, int64_t rows) {
    struct tensor mask = take_mask(a, ctx->call, rows);
    struct dropout_key key = a->key;
    key.seed = ctx->seed;
    key.step = ctx->step;
    be_dropout_mask(ctx->stream, mask, a->a.cols, &key, ctx->row_key);
    return mask;
}

static inline void test_adapter_forward(const struct linear_adapter *base,
                                        const struct adapter_context *ctx, struct tensor x,
                                        struct adapter_saved *saved, struct product_sum *y) {
    const struct test_adapter *a = (const struct test_adapter *)base;
    struct tensor none = {0};
    if (ctx->training && a->key.p > 0)
        be_dropout_apply(ctx->stream, saved->t[0], none, x, draw_mask(a, ctx, x.rows), a->key.p);
    else
        be_copy(ctx->stream, saved->t[0], x);
    be_matmul(ctx->stream, MATMUL_TRANS_B, 0.5, saved->t[0], a->a, 0.0, saved->t[1]);
    product_add(&y->terms, MATMUL_TRANS_B, saved->t[1], a->b);
}

static inline void test_adapter_backward(const struct linear_adapter *base,
                                         const struct adapter_context *ctx, struct tensor x,
                                         struct tensor dy, const struct adapter_saved *saved,
                                         struct product_terms *dx) {
    const struct test_adapter *a = (const struct test_adapter *)base;
    struct tensor d = take_real(a, ctx->call, dy.rows, a->a.rows);
    (void)x;
    assert_true(dy.dtype == d.dtype); /* this adapter is for compute types that are real */
    be_matmul(ctx->stream, 0, 0.5, dy, a->b, 0.0, d);
    be_matmul(ctx->stream, MATMUL_TRANS_A, 1.0, dy, saved->t[1], 1.0, a->db);
    be_matmul(ctx->stream, MATMUL_TRANS_A, 1.0, d, saved->t[0], 1.0, a->da);
    if (!dx) return;
    struct product_term *t = product_add(dx, 0, d, a->a);
    if (a->key.p > 0) {
        t->mask = draw_mask(a, ctx, dy.rows);
        t->p = a->key.p;
    }
}

static const struct linear_adapter_ops test_adapter_ops = {.layout = test_adapter_layout,
                                                           .forward = test_adapter_forward,
                                                           .backward = test_adapter_backward};

static inline struct tensor random_real(enum dtype t, int64_t rows, int64_t cols, uint32_t stream,
                                        double size) {
    struct tensor x =
        tensor_of(mem_calloc(MEM_OTHER, (size_t)(rows * cols), dtype_size(t)), t, rows, cols);
    assert_non_null(x.data);
    for (int64_t i = 0; i < rows * cols; i++)
        set_element_of(x, i,
                       size * (double)(float)rng_normal(TEST_SEED, rng_stream(RNG_TEST, stream), 9,
                                                        (uint64_t)i));
    return x;
}

/* Bit m of layer0 / layer1: module m gets an adapter. */
static inline void adapters_attach(struct model *m, struct test_adapter (*all)[MODULES],
                                   unsigned layer0, unsigned layer1, double dropout) {
    enum dtype real = backend_real(m->backend);
    memset(all, 0, 2 * sizeof *all);
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < MODULES; i++) {
            struct test_adapter *a = &all[l][i];
            int64_t rows = module_rows(&m->config, (enum module)i);
            int64_t cols = module_cols(&m->config, (enum module)i);
            uint32_t number = (uint32_t)(l * MODULES + i);
            if (!((l == 0 ? layer0 : layer1) >> i & 1)) continue;
            a->base.ops = &test_adapter_ops;
            a->a = random_real(real, ADAPTER_RANK, cols, 500 + number, 0.3);
            a->b = random_real(real, rows, ADAPTER_RANK, 600 + number, 0.3);
            a->da = random_real(real, ADAPTER_RANK, cols, 0, 0);
            a->db = random_real(real, rows, ADAPTER_RANK, 0, 0);
            a->key.stream = rng_stream(RNG_DROPOUT, number);
            a->key.p = dropout;
            model_attach(m, l, (enum module)i, &a->base);
        }
}

static inline void adapters_free(struct model *m, struct test_adapter (*all)[MODULES]) {
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < MODULES; i++) {
            struct test_adapter *a = &all[l][i];
            model_attach(m, l, (enum module)i, NULL);
            mem_free(a->a.data);
            mem_free(a->b.data);
            mem_free(a->da.data);
            mem_free(a->db.data);
        }
}

/* The gradients of a model's own weights, to switch them off. */
static inline void freeze_weights(struct model *m) {
    m->train_all = false;
    m->d_embed.data = m->d_head.data = m->d_final_norm.data = NULL;
    for (int64_t l = 0; l < m->config.layers; l++) {
        struct layer *layer = &m->layers[l];
        layer->d_attn_norm.data = layer->d_mlp_norm.data = NULL;
        for (int i = 0; i < MODULES; i++)
            layer->linear[i].dw.data = layer->linear[i].db.data = NULL;
    }
}

#endif
