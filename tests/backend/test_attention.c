/* SPDX-License-Identifier: Apache-2.0 */
/* test_attention.c - attention with a cache: a query has the bits that it has in one pass over the whole
 * sequence, whether it comes alone or with others, beside other sequences, on one thread or two.  Lengths lie
 * around the segments of keys (256) and the limit up to which queries count as few (8). */
#include "check.h"

#include "backend/backend.h"
#include "core/rng.h"
#include "core/threads.h"

enum { KEYS = 777 };

static struct tensor normal(enum dtype t, int64_t rows, int64_t cols, uint32_t stream) {
    struct tensor x =
        tensor_of(mem_alloc(MEM_OTHER, (size_t)(rows * cols), dtype_size(t)), t, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        double v = rng_normal(11, stream, 0, (uint64_t)i);
        switch (t) {
        case DT_F32: ((float *)x.data)[i] = (float)v; break;
        case DT_BF16: ((bf16 *)x.data)[i] = bf16_from_f32((float)v); break;
        default: ((double *)x.data)[i] = v; break;
        }
    }
    return x;
}

struct cache {
    struct backend *b;
    struct stream *s;
    const struct attn_shape *shape;
    struct tensor q, k, v, o, lse, again, lse_again;
};

static struct cache cache_new(enum dtype act, const struct attn_shape *sh) {
    struct cache c = {.shape = sh};
    struct mil_error err = {0};
    assert_int_equal(backend_open("cpu", act, &c.b, &err), MIL_OK);
    c.s = backend_stream(c.b);
    int64_t qc = sh->heads * sh->head_dim, kc = sh->kv_heads * sh->head_dim;
    c.q = normal(act, KEYS, qc, 1);
    c.k = normal(act, KEYS, kc, 2);
    c.v = normal(act, KEYS, kc, 3);
    c.o = normal(act, KEYS, qc, 4);
    c.again = normal(act, KEYS, qc, 5);
    c.lse = normal(backend_real(c.b), KEYS, sh->heads, 6);
    c.lse_again = normal(backend_real(c.b), KEYS, sh->heads, 7);
    return c;
}
static void cache_free(struct cache *c) {
    struct tensor *all[] = {&c->q, &c->k, &c->v, &c->o, &c->again, &c->lse, &c->lse_again};
    for (int i = 0; i < 7; i++) mem_free(all[i]->data);
    backend_free(&c->b);
}

static void assert_rows_equal(struct tensor a, struct tensor b, int64_t first, int64_t n) {
    size_t bytes = (size_t)(n * a.cols) * dtype_size(a.dtype);
    assert_memory_equal(tensor_rows(a, first, n).data, tensor_rows(b, first, n).data, bytes);
}

/* The n_q queries before each of the ends, in one call. */
static void check_ends(struct cache *c, int64_t n_q) {
    static const int64_t ends[] = {KEYS, 767, 530, 512, 300, 256, 17, 8};
    enum { N = sizeof ends / sizeof *ends };
    struct attn_seq seqs[N];
    for (int i = 0; i < N; i++) {
        int64_t n = n_q < ends[i] ? n_q : ends[i];
        seqs[i] = (struct attn_seq){ends[i] - n, n, 0, ends[i]};
    }
    be_zero(c->s, c->again);
    be_zero(c->s, c->lse_again);
    be_attention_fwd(c->s, c->again, c->lse_again, c->q, c->k, c->v, seqs, N, c->shape);
    for (int i = 0; i < N; i++) {
        assert_rows_equal(c->o, c->again, seqs[i].q_row, seqs[i].n_q);
        assert_rows_equal(c->lse, c->lse_again, seqs[i].q_row, seqs[i].n_q);
    }
}

static const struct attn_shape shapes[] = {{6, 2, 64, 0, 0.125},  {3, 3, 128, 0, 0.1},
                                           {4, 2, 32, 290, 0.2},  {5, 1, 24, 0, 0.2},
                                           {12, 1, 66, 40, 0.12}, {40, 2, 8, 0, 0.3}};

static void decoding(void **state) {
    (void)state;
    static const enum dtype acts[] = {DT_F32, DT_BF16};
    static const int64_t queries[] = {1, 2, 8, 9};
    for (int i = 0; i < 12; i++) {
        struct cache c = cache_new(acts[i % 2], &shapes[i / 2]);
        struct attn_seq whole = {0, KEYS, 0, KEYS};
        be_attention_fwd(c.s, c.o, c.lse, c.q, c.k, c.v, &whole, 1, c.shape);
        for (int n = 0; n < 8; n++) {
            threads_set(1 + n % 2);
            check_ends(&c, queries[n / 2]);
            threads_set(0);
        }
        cache_free(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(decoding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
