/* SPDX-License-Identifier: Apache-2.0 */
/* d2.h - how much of an adapter's contribution survives bf16 operands, in three ways of computing
 * it (shared by test_d2.c and bench/d2.c).
 *
 * W is rounded to bf16 first, as a bf16 model holds it.  After k Adam steps at learning rate 3e-4
 * the factors have moved by about 3e-4 sqrt(k) an entry (a random walk), which is drawn here. Then
 *     exact     s (B A - B0 A0) x, in f64
 *     residual  bf16(W - s B0 A0) x + s B (A x)  -  W x         (the paper's layout)
 *     naive     s B (A x) - s B0 (A0 x)
 *     delta     s ( dB (A x) + B0 (dA x) ), the code under test
 * all with bf16 operands and f32 sums; the error is relative in the Frobenius norm over TOKENS
 * random inputs. */
#ifndef MIL_TESTS_ADAPT_D2_H
#define MIL_TESTS_ADAPT_D2_H

#include <math.h>
#include <string.h>

#include "adapt/delta.h"
#include "adapt/internal.h"
#include "apply.h"
#include "core/mem.h"
#include "core/rng.h"

enum { D2_TOKENS = 32 };

struct d2_errors {
    double residual, naive, delta;
};

struct d2 {
    int64_t m, n, r;
    struct delta d;
    float *w;          /* [m, n], values of bf16 */
    double *x, *exact; /* [T, n], values of bf16; [T, m] */
    struct backend *backend;
};

static inline double d2_normal(uint32_t stream, int64_t i) {
    return rng_normal(11, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
}

static inline float d2_round(double x) {
    return bf16_to_f32(bf16_from_f32((float)x));
}

static inline bf16 *d2_bf16(const float *x, int64_t n, double scale) {
    bf16 *h = mem_alloc(MEM_OTHER, (size_t)n, sizeof *h);
    REQUIRE(h);
    for (int64_t i = 0; i < n; i++) h[i] = bf16_from_f32((float)(scale * (double)x[i]));
    return h;
}

/* Factors of `method` for w [m, n] (rounded to bf16 here); s = 1. */
static inline enum mil_status d2_init(struct d2 *t, float *w, int64_t m, int64_t n, int64_t r,
                                      const char *method, struct mil_error *why) {
    const struct method *how;
    memset(t, 0, sizeof *t);
    TRY(method_find(method, &how, why));
    TRY(backend_open("cpu", DT_BF16, &t->backend, why));
    t->m = m;
    t->n = n;
    t->r = r;
    t->w = w;
    t->d = (struct delta){
        .module = MODULE_Q, .m = m, .n = n, .r = r, .alpha = (double)r, .form = how->form};
    TRY(delta_alloc(&t->d, why));
    t->x = mem_alloc(MEM_OTHER, (size_t)(D2_TOKENS * n), sizeof *t->x);
    t->exact = mem_calloc(MEM_OTHER, (size_t)(D2_TOKENS * m), sizeof *t->exact);
    REQUIRE(t->x && t->exact);
    for (int64_t i = 0; i < m * n; i++) w[i] = d2_round(w[i]);
    for (int64_t i = 0; i < D2_TOKENS * n; i++) t->x[i] = d2_round(d2_normal(1, i));
    struct method_init io = {
        .w = {w, DT_F32, m, n}, .m = m, .n = n, .r = r, .scale = 1, .a0 = t->d.a0, .b0 = t->d.b0};
    return how->init(&io, why);
}

static inline void d2_release(struct d2 *t) {
    mem_free(t->d.a0);
    mem_free(t->d.b0);
    mem_free(t->d.da);
    mem_free(t->d.db);
    mem_free(t->x);
    mem_free(t->exact);
    backend_free(&t->backend);
}

/* Move the factors by `size` an entry, and compute the exact contribution. */
static inline void d2_move(struct d2 *t, double size) {
    struct delta *d = &t->d;
    for (int64_t i = 0; i < t->r * t->n; i++) d->da[i] = (float)(size * d2_normal(2, i));
    for (int64_t i = 0; i < t->m * t->r; i++) d->db[i] = (float)(size * d2_normal(3, i));
    memset(t->exact, 0, (size_t)(D2_TOKENS * t->m) * sizeof *t->exact);
    for (int64_t i = 0; i < D2_TOKENS; i++)
        for (int64_t k = 0; k < t->r; k++) {
            double a0x = 0, dax = 0;
            for (int64_t j = 0; j < t->n; j++) {
                a0x += (double)d->a0[k * t->n + j] * t->x[i * t->n + j];
                dax += (double)d->da[k * t->n + j] * t->x[i * t->n + j];
            }
            for (int64_t o = 0; o < t->m; o++) {
                double db = d->db[o * t->r + k], b0 = d->b0[o * t->r + k];
                t->exact[i * t->m + o] += db * (a0x + dax) + b0 * dax;
            }
        }
}

/* || y - wx - exact || / || exact ||; wx may be NULL. */
static inline double d2_error(const struct d2 *t, const float *y, const double *wx) {
    double off = 0, size = 0;
    for (int64_t i = 0; i < D2_TOKENS * t->m; i++) {
        double e = (double)y[i] - (wx ? wx[i] : 0) - t->exact[i];
        off += e * e;
        size += t->exact[i] * t->exact[i];
    }
    return sqrt(off / size);
}

/* y += x (left right)^T with every operand and the product between rounded to bf16. */
static inline void d2_low_rank(const struct d2 *t, const bf16 *x, const float *b, const float *a,
                               double sign, float *y) {
    struct stream *s = backend_stream(t->backend);
    bf16 *ah = d2_bf16(a, t->r * t->n, 1), *bh = d2_bf16(b, t->m * t->r, 1);
    bf16 *h = mem_alloc(MEM_OTHER, (size_t)(D2_TOKENS * t->r), sizeof *h);
    REQUIRE(h);
    be_matmul(s, MATMUL_TRANS_B, 1, tensor_of((void *)x, DT_BF16, D2_TOKENS, t->n),
              tensor_of(ah, DT_BF16, t->r, t->n), 0, tensor_of(h, DT_BF16, D2_TOKENS, t->r));
    be_matmul(s, MATMUL_TRANS_B, sign, tensor_of(h, DT_BF16, D2_TOKENS, t->r),
              tensor_of(bh, DT_BF16, t->m, t->r), 1, tensor_of(y, DT_F32, D2_TOKENS, t->m));
    stream_sync(s, NULL);
    mem_free(h);
    mem_free(bh);
    mem_free(ah);
}

/* A = A0 + dA, B = B0 + dB in f32. */
static inline void d2_whole(const struct d2 *t, float *a, float *b) {
    for (int64_t i = 0; i < t->r * t->n; i++) a[i] = t->d.a0[i] + t->d.da[i];
    for (int64_t i = 0; i < t->m * t->r; i++) b[i] = t->d.b0[i] + t->d.db[i];
}

static inline double d2_residual(const struct d2 *t, const bf16 *x, const float *a, const float *b,
                                 float *y) {
    double *wx = mem_calloc(MEM_OTHER, (size_t)(D2_TOKENS * t->m), sizeof *wx);
    float *rest = mem_alloc(MEM_OTHER, (size_t)(t->m * t->n), sizeof *rest);
    REQUIRE(wx && rest);
    memcpy(rest, t->w, (size_t)(t->m * t->n) * sizeof *rest);
    REQUIRE(low_rank_add(rest, t->m, t->n, t->r, -1, t->d.b0, t->d.a0, NULL) == MIL_OK);
    bf16 *stored = d2_bf16(rest, t->m * t->n, 1);
    for (int64_t i = 0; i < D2_TOKENS; i++)
        for (int64_t o = 0; o < t->m; o++)
            for (int64_t j = 0; j < t->n; j++)
                wx[i * t->m + o] += (double)t->w[o * t->n + j] * t->x[i * t->n + j];
    be_matmul(backend_stream(t->backend), MATMUL_TRANS_B, 1,
              tensor_of((void *)x, DT_BF16, D2_TOKENS, t->n),
              tensor_of(stored, DT_BF16, t->m, t->n), 0, tensor_of(y, DT_F32, D2_TOKENS, t->m));
    d2_low_rank(t, x, b, a, 1, y);
    double e = d2_error(t, y, wx);
    mem_free(stored);
    mem_free(rest);
    mem_free(wx);
    return e;
}

/* The code under test, attached to a model of one module. */
static inline double d2_delta(struct d2 *t, bf16 *x, float *y) {
    struct layer layer;
    struct model model = {.backend = t->backend, .layers = &layer};
    struct adapter adapter = {.deltas = &t->d, .n = 1, .layers = 1};
    struct adapter_runtime *rt;
    struct arena step, call;
    struct adapter_saved saved;
    memset(&layer, 0, sizeof layer);
    model.config = (struct model_config){
        .layers = 1, .width = t->n, .heads = 1, .kv_heads = 1, .head_dim = t->m};
    REQUIRE(adapter_attach(&adapter, &model, false, &rt, NULL) == MIL_OK);
    REQUIRE(arena_init(&step, MEM_STEP, 1 << 20, NULL) == MIL_OK);
    REQUIRE(arena_init(&call, MEM_SCRATCH, 1 << 20, NULL) == MIL_OK);
    const struct linear_adapter *l = layer.linear[MODULE_Q].adapter;
    struct adapter_context ctx = {.stream = backend_stream(t->backend), .call = &call};
    l->ops->layout(l, &step, &call, D2_TOKENS, &saved);
    memset(y, 0, (size_t)(D2_TOKENS * t->m) * sizeof *y);
    apply_forward(l, &ctx, tensor_of(x, DT_BF16, D2_TOKENS, t->n),
                  tensor_of(y, DT_F32, D2_TOKENS, t->m), &saved);
    stream_sync(ctx.stream, NULL);
    adapter_detach(&rt);
    arena_release(&step);
    arena_release(&call);
    return d2_error(t, y, NULL);
}

static inline struct d2_errors d2_measure(struct d2 *t) {
    struct d2_errors e;
    size_t outputs = (size_t)(D2_TOKENS * t->m);
    bf16 *x = mem_alloc(MEM_OTHER, (size_t)(D2_TOKENS * t->n), sizeof *x);
    float *y = mem_calloc(MEM_OTHER, outputs, sizeof *y);
    float *a = mem_alloc(MEM_OTHER, (size_t)(t->r * t->n), sizeof *a);
    float *b = mem_alloc(MEM_OTHER, (size_t)(t->m * t->r), sizeof *b);
    REQUIRE(x && y && a && b);
    for (int64_t i = 0; i < D2_TOKENS * t->n; i++) x[i] = bf16_from_f32((float)t->x[i]);
    d2_whole(t, a, b);
    e.delta = d2_delta(t, x, y);
    memset(y, 0, outputs * sizeof *y);
    d2_low_rank(t, x, b, a, 1, y);
    d2_low_rank(t, x, t->d.b0, t->d.a0, -1, y);
    e.naive = d2_error(t, y, NULL);
    e.residual = d2_residual(t, x, a, b, y);
    mem_free(b);
    mem_free(a);
    mem_free(y);
    mem_free(x);
    return e;
}

#endif
