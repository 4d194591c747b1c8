/* SPDX-License-Identifier: Apache-2.0 */
/* support.h - what the tests of src/model share: opened models, batches of sequences, comparison of
 * tensors by their largest entry. */
#ifndef MIL_TESTS_MODEL_SUPPORT_H
#define MIL_TESTS_MODEL_SUPPORT_H

#include "check.h"

#include <math.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"
#include "model/model.h"

enum { TEST_MAX_TOKENS = 64, TEST_SEED = 20250131 };

/* ---- a model with everything around it ---- */

struct opened {
    struct checkpoint *c;
    struct backend *b;
    struct model *m;
    struct full *full;
};

static inline void opened_close(struct opened *o) {
    full_free(&o->full);
    model_free(&o->m);
    backend_free(&o->b);
    checkpoint_free(&o->c);
}

static inline struct opened open_dir(const char *dir, enum dtype compute, bool full) {
    struct mil_error err = {0};
    struct opened o = {0};
    assert_ok(backend_open("cpu", compute, &o.b, &err));
    assert_ok(checkpoint_open(dir, CHECKPOINT_WEIGHTS, &o.c, &err));
    assert_ok(model_new(o.c, o.b, TEST_MAX_TOKENS, &o.m, &err));
    if (full) assert_ok(full_new(o.m, &o.full, &err));
    return o;
}

/* Element i of a contiguous host tensor of any type. */
static inline double element_of(struct tensor t, int64_t i) {
    switch (t.dtype) {
    case DT_F64: return ((const double *)t.data)[i];
    case DT_F32: return (double)((const float *)t.data)[i];
    case DT_BF16: return (double)bf16_to_f32(((const bf16 *)t.data)[i]);
    default: fail_msg("element type %s", dtype_name(t.dtype)); return 0;
    }
}
static inline void set_element_of(struct tensor t, int64_t i, double v) {
    if (t.dtype == DT_F64)
        ((double *)t.data)[i] = v;
    else
        ((float *)t.data)[i] = (float)v;
}

/* A model of this configuration with random weights, all of them trainable: matrices and biases
 * N(0, 0.3^2), norms 1 + N(0, 0.2^2); the same values (rounded) in every compute type. */
static inline struct opened open_random(const struct model_config *c, enum dtype compute) {
    struct mil_error err = {0};
    struct opened o = {0};
    assert_ok(backend_open("cpu", compute, &o.b, &err));
    assert_ok(model_new_fresh(c, o.b, TEST_MAX_TOKENS, TEST_SEED, &o.m, &err));
    assert_ok(full_new(o.m, &o.full, &err));
    struct trainable *t = full_trainable(o.full);
    for (size_t p = 0; p < t->n; p++) {
        struct tensor v = t->params[p].value;
        bool norm = strstr(t->params[p].name, "norm") != NULL;
        for (int64_t i = 0; i < v.rows * v.cols; i++) {
            double z = rng_normal(TEST_SEED, rng_stream(RNG_TEST, (uint32_t)p), 0, (uint64_t)i);
            set_element_of(v, i, (double)(float)(norm ? 1 + 0.2 * z : 0.3 * z));
        }
    }
    t->refresh(t->owner, backend_stream(o.b));
    return o;
}

static inline void zero_gradients(struct opened *o) {
    struct trainable *t = full_trainable(o->full);
    for (size_t p = 0; p < t->n; p++) be_zero(backend_stream(o->b), t->params[p].grad);
}

/* Every feature at once: grouped queries, heads wider than C / H, all biases, an untied head. */
static inline struct model_config wide_config(void) {
    return (struct model_config){.family = "llama",
                                 .vocab = 37,
                                 .width = 12,
                                 .layers = 2,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 6,
                                 .ffn = 20,
                                 .max_positions = TEST_MAX_TOKENS,
                                 .norm_eps = 1e-5,
                                 .rope = {.kind = ROPE_PLAIN, .theta = 100, .factor = 1},
                                 .qkv_bias = true,
                                 .o_bias = true,
                                 .mlp_bias = true,
                                 .bos = 1,
                                 .eos = {2},
                                 .n_eos = 1,
                                 .init_range = 0.3};
}
/* The other branch of each: tied head, no biases, a sliding window. */
static inline struct model_config tied_config(void) {
    struct model_config c = wide_config();
    snprintf(c.family, sizeof c.family, "mistral");
    c.tied_head = true;
    c.qkv_bias = c.o_bias = c.mlp_bias = false;
    c.window = 3;
    return c;
}

/* ---- batches ---- */

struct test_batch {
    struct batch b;
    int32_t ids[TEST_MAX_TOKENS], position[TEST_MAX_TOKENS], row[TEST_MAX_TOKENS],
        label[TEST_MAX_TOKENS];
    uint64_t key[TEST_MAX_TOKENS];
    struct attn_seq seqs[8];
};

/* Append a sequence; its tokens from `masked` on are labels.  key0 identifies its first token. */
static inline void batch_add(struct test_batch *t, const int32_t *ids, int64_t n, int64_t masked,
                             uint64_t key0) {
    struct batch *b = &t->b;
    assert_true(b->tokens + n <= TEST_MAX_TOKENS && b->n_seqs < 8);
    t->seqs[b->n_seqs++] = (struct attn_seq){b->tokens, n, b->tokens, n};
    for (int64_t i = 0; i < n; i++) {
        t->ids[b->tokens] = ids[i];
        t->position[b->tokens] = (int32_t)i;
        t->key[b->tokens] = key0 + (uint64_t)i;
        if (i + 1 < n && i + 1 >= masked) {
            t->row[b->n_rows] = (int32_t)b->tokens;
            t->label[b->n_rows++] = ids[i + 1];
        }
        b->tokens++;
    }
    b->ids = t->ids;
    b->position = t->position;
    b->row = t->row;
    b->label = t->label;
    b->row_key = t->key;
    b->seqs = t->seqs;
    b->loss_scale = 1.0 / (double)(b->n_rows > 0 ? b->n_rows : 1);
    b->seed = 7;
    b->step = 3;
}

static inline void random_ids(int32_t *ids, int64_t n, int64_t vocab, uint32_t stream) {
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)(rng_words(TEST_SEED, rng_stream(RNG_TEST, stream), 1, (uint64_t)i).w[0] %
                           (uint32_t)vocab);
}
/* Two or three sequences of 11, 7 and 5 tokens. */
static inline void batch_random(struct test_batch *t, int64_t vocab, int n_seqs) {
    static const int64_t lengths[] = {11, 7, 5};
    int32_t ids[16];
    memset(t, 0, sizeof *t);
    for (int i = 0; i < n_seqs; i++) {
        random_ids(ids, lengths[i], vocab, 1000 + (uint32_t)i);
        batch_add(t, ids, lengths[i], 2, 1000 * (uint64_t)i);
    }
}

static inline struct step *open_step(struct model *m, int64_t head_chunk, bool recompute) {
    struct mil_error err = {0};
    struct step_options o = {TEST_MAX_TOKENS, TEST_MAX_TOKENS, head_chunk, recompute};
    struct step *s = NULL;
    assert_ok(step_new(m, &o, &s, &err));
    return s;
}

/* ---- comparison ---- */

/* max |a - b| <= tolerance * max |b|, over n elements got through element_of. */
static inline void assert_close(const char *what, struct tensor a, struct tensor b,
                                double tolerance) {
    double worst = 0, scale = 0;
    assert_int_equal(a.rows * a.cols, b.rows * b.cols);
    for (int64_t i = 0; i < a.rows * a.cols; i++) {
        double d = fabs(element_of(a, i) - element_of(b, i));
        worst = d > worst || d != d ? d : worst;
        scale = fmax(scale, fabs(element_of(b, i)));
    }
    if (!(worst <= tolerance * scale))
        fail_msg("%s: differs by %.3g of its largest entry %.3g; tolerance %.3g", what,
                 worst / scale, scale, tolerance);
}

/* A copy of a tensor's bytes, to compare with later. */
static inline void *bytes_of(struct tensor t) {
    size_t n = (size_t)(t.rows * t.cols) * dtype_size(t.dtype);
    void *p = mem_alloc(MEM_OTHER, n, 1);
    assert_non_null(p);
    memcpy(p, t.data, n);
    return p;
}

#endif
