/* SPDX-License-Identifier: Apache-2.0 */
/* test_ops.c - the decoder operations through the backend.
 *
 * Gradients: in the F64 backend, the loss L = sum of y w with fixed random w; dL/dx by the backward
 * operation against the central difference (L(x + h) - L(x - h)) / 2h.  With h = 1e-5 its
 * truncation error is h^2 / 6 |L'''| ~ 1e-10 and its rounding error 2^-53 |L| / h ~ 1e-9 for |L| up
 * to 100, so 1e-7 (1 + |dL/dx|) holds with room and an error in a formula does not pass. */
#include "check.h"

#include <math.h>

#include "backend/backend.h"
#include "core/rng.h"
#include "core/threads.h"

enum { SEED = 991 };

static struct backend *open_backend(enum dtype compute) {
    struct mil_error err = {0};
    struct backend *b = NULL;
    assert_ok(backend_open("cpu", compute, &b, &err));
    return b;
}

/* A rows x cols tensor of normal numbers; freed by the caller through data. */
static struct tensor normal(enum dtype t, int64_t rows, int64_t cols, uint32_t stream) {
    struct tensor x =
        tensor_of(mem_alloc(MEM_OTHER, (size_t)(rows * cols), dtype_size(t)), t, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        double v = rng_normal(SEED, stream, 0, (uint64_t)i);
        if (t == DT_F64) ((double *)x.data)[i] = v;
        if (t == DT_F32) ((float *)x.data)[i] = (float)v;
        if (t == DT_BF16) ((bf16 *)x.data)[i] = bf16_from_f32((float)v);
    }
    return x;
}
static double at(struct tensor t, int64_t row, int64_t col) {
    int64_t i = row * t.ld + col;
    switch (t.dtype) {
    case DT_F64: return ((double *)t.data)[i];
    case DT_F32: return (double)((float *)t.data)[i];
    default: return (double)bf16_to_f32(((bf16 *)t.data)[i]);
    }
}

/* ---- gradients by finite differences ---- */

enum { MAX_IN = 4 };

/* An operation under test: its inputs, and how to run it. */
struct graph {
    struct backend *b;
    struct stream *s;
    int n_in;
    struct tensor in[MAX_IN], grad[MAX_IN]; /* grad is zero before backward runs */
    struct tensor out, weight;              /* L = sum out * weight */
    struct tensor aux[3];
    void (*forward)(struct graph *g);
    void (*backward)(struct graph *g); /* from weight as the gradient of out */
};

static double loss(struct graph *g) {
    double sum = 0;
    g->forward(g);
    for (int64_t r = 0; r < g->out.rows; r++)
        for (int64_t c = 0; c < g->out.cols; c++) sum += at(g->out, r, c) * at(g->weight, r, c);
    return sum;
}

static void check_gradients(struct graph *g) {
    const double h = 1e-5;
    loss(g);
    for (int i = 0; i < g->n_in; i++) be_zero(g->s, g->grad[i]);
    g->backward(g);
    for (int i = 0; i < g->n_in; i++)
        for (int64_t e = 0; e < g->in[i].rows * g->in[i].cols; e++) {
            double *x = (double *)g->in[i].data + e, x0 = *x;
            *x = x0 + h;
            double up = loss(g);
            *x = x0 - h;
            double down = loss(g);
            *x = x0;
            double want = (up - down) / (2 * h), got = ((double *)g->grad[i].data)[e];
            if (!(fabs(got - want) <= 1e-7 * (1 + fabs(want))))
                fail_msg("input %d element %ld: gradient %.10g, difference %.10g", i, (long)e, got,
                         want);
        }
}

static struct graph graph_new(int n_in, const int64_t (*shapes)[2], int64_t rows, int64_t cols) {
    struct graph g = {.b = open_backend(DT_F64), .n_in = n_in};
    g.s = backend_stream(g.b);
    for (int i = 0; i < n_in; i++) {
        g.in[i] = normal(DT_F64, shapes[i][0], shapes[i][1], (uint32_t)i);
        g.grad[i] = normal(DT_F64, shapes[i][0], shapes[i][1], 90);
    }
    g.out = normal(DT_F64, rows, cols, 91);
    g.weight = normal(DT_F64, rows, cols, 92);
    return g;
}
static void graph_free(struct graph *g) {
    for (int i = 0; i < g->n_in; i++) {
        mem_free(g->in[i].data);
        mem_free(g->grad[i].data);
    }
    for (int i = 0; i < 3; i++) mem_free(g->aux[i].data);
    mem_free(g->out.data);
    mem_free(g->weight.data);
    backend_free(&g->b);
}

static void rmsnorm_f(struct graph *g) {
    be_rmsnorm_fwd(g->s, g->out, g->aux[0], g->in[0], g->in[1], 1e-3);
}
static void rmsnorm_b(struct graph *g) {
    be_rmsnorm_bwd(g->s, g->grad[0], g->grad[1], g->weight, g->in[0], g->in[1], g->aux[0]);
}
static void gradient_rmsnorm(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{5, 12}, {1, 12}};
    struct graph g = graph_new(2, shapes, 5, 12);
    g.aux[0] = normal(DT_F64, 5, 1, 3);
    g.forward = rmsnorm_f, g.backward = rmsnorm_b;
    check_gradients(&g);
    graph_free(&g);
}

static const int32_t rope_positions[4] = {0, 5, 2, 2};
static void rope_f(struct graph *g) {
    be_copy(g->s, g->out, g->in[0]);
    be_rope(g->s, g->out, g->aux[0], rope_positions, 6, false);
}
static void rope_b(struct graph *g) {
    be_copy(g->s, g->grad[0], g->weight);
    be_rope(g->s, g->grad[0], g->aux[0], rope_positions, 6, true);
}
static void gradient_rope(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{4, 12}};
    struct graph g = graph_new(1, shapes, 4, 12);
    g.aux[0] = normal(DT_F64, 6, 6, 3);
    for (int p = 0; p < 6; p++)
        for (int i = 0; i < 3; i++) {
            ((double *)g.aux[0].data)[p * 6 + i] = cos(p * 0.3 * (i + 1));
            ((double *)g.aux[0].data)[p * 6 + 3 + i] = sin(p * 0.3 * (i + 1));
        }
    g.forward = rope_f, g.backward = rope_b;
    check_gradients(&g);
    graph_free(&g);
}

static void swiglu_f(struct graph *g) {
    be_swiglu_fwd(g->s, g->out, g->in[0], g->in[1]);
}
static void swiglu_b(struct graph *g) {
    be_swiglu_bwd(g->s, g->grad[0], g->grad[1], g->weight, g->in[0], g->in[1]);
}
static void gradient_swiglu(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{3, 11}, {3, 11}};
    struct graph g = graph_new(2, shapes, 3, 11);
    g.forward = swiglu_f, g.backward = swiglu_b;
    check_gradients(&g);
    graph_free(&g);
}

static void bias_f(struct graph *g) {
    be_zero(g->s, g->out);
    be_add_bias(g->s, g->out, g->in[0]);
}
static void bias_b(struct graph *g) {
    be_bias_grad(g->s, g->grad[0], g->weight);
}
static void gradient_bias(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{1, 7}};
    struct graph g = graph_new(1, shapes, 9, 7);
    g.forward = bias_f, g.backward = bias_b;
    check_gradients(&g);
    graph_free(&g);
}

/* Cross entropy: the loss of all rows with weight 1; its operation returns the gradient itself. */
static const int32_t labels[3] = {0, 9, 4};
static void cross_entropy_f(struct graph *g) {
    be_cross_entropy(g->s, g->out, (struct tensor){0}, g->in[0], labels, 1.0);
}
static void cross_entropy_b(struct graph *g) {
    be_cross_entropy(g->s, g->out, g->grad[0], g->in[0], labels, 1.0);
}
static void gradient_cross_entropy(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{3, 10}};
    struct graph g = graph_new(1, shapes, 3, 1);
    for (int i = 0; i < 3; i++) ((double *)g.weight.data)[i] = 1.0;
    g.forward = cross_entropy_f, g.backward = cross_entropy_b;
    check_gradients(&g);
    graph_free(&g);
}

/* Matmul as the model uses it: y = x W^T, dx = dy W, dW = dy^T x. */
static void linear_f(struct graph *g) {
    be_matmul(g->s, MATMUL_TRANS_B, 1, g->in[0], g->in[1], 0, g->out);
}
static void linear_b(struct graph *g) {
    be_matmul(g->s, 0, 1, g->weight, g->in[1], 0, g->grad[0]);
    be_matmul(g->s, MATMUL_TRANS_A, 1, g->weight, g->in[0], 1, g->grad[1]);
}
static void gradient_linear(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{4, 6}, {5, 6}};
    struct graph g = graph_new(2, shapes, 4, 5);
    g.forward = linear_f, g.backward = linear_b;
    check_gradients(&g);
    graph_free(&g);
}

static const struct attn_shape small_shape = {4, 2, 6, 3, 0.4};
static const struct attn_seq small_seqs[2] = {{0, 5, 0, 5}, {5, 2, 5, 4}};
static void attention_f(struct graph *g) {
    be_attention_fwd(g->s, g->out, g->aux[0], g->in[0], g->in[1], g->in[2], small_seqs, 2,
                     &small_shape);
}
static void attention_b(struct graph *g) {
    be_attention_bwd(g->s, g->grad[0], g->grad[1], g->grad[2], g->weight, g->out, g->aux[0],
                     g->in[0], g->in[1], g->in[2], small_seqs, 2, &small_shape);
}
static void gradient_attention(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{7, 24}, {9, 12}, {9, 12}};
    struct graph g = graph_new(3, shapes, 7, 24);
    g.aux[0] = normal(DT_F64, 7, 4, 3);
    g.forward = attention_f, g.backward = attention_b;
    check_gradients(&g);
    graph_free(&g);
}

/* ---- attention: packed sequences, windows, threads ---- */

/* softmax(scale q k^T + mask) v as it is written in a text book, for one row and head. */
static void naive_row(struct tensor q, struct tensor k, struct tensor v, const struct attn_seq *seq,
                      const struct attn_shape *sh, int64_t i, int64_t head, double *out) {
    int64_t kv = head / (sh->heads / sh->kv_heads), p = seq->n_kv - seq->n_q + i,
            dim = sh->head_dim;
    double scores[512], sum = 0;
    for (int64_t j = 0; j < seq->n_kv; j++) {
        double s = 0;
        for (int64_t c = 0; c < dim; c++)
            s += at(q, seq->q_row + i, head * dim + c) * at(k, seq->k_row + j, kv * dim + c);
        bool seen = j <= p && (sh->window == 0 || j > p - sh->window);
        scores[j] = seen ? exp(sh->scale * s) : 0;
        sum += scores[j];
    }
    for (int64_t c = 0; c < dim; c++) {
        out[c] = 0;
        for (int64_t j = 0; j < seq->n_kv; j++)
            out[c] += scores[j] / sum * at(v, seq->k_row + j, kv * dim + c);
    }
}

struct attention_data {
    struct backend *b;
    struct stream *s;
    struct tensor q, k, v, o, lse, d_o, dq, dk, dv;
};
static struct attention_data attention_new(enum dtype compute, const struct attn_shape *sh,
                                           int64_t rows) {
    struct attention_data d = {.b = open_backend(compute)};
    d.s = backend_stream(d.b);
    int64_t qc = sh->heads * sh->head_dim, kc = sh->kv_heads * sh->head_dim;
    struct tensor *wide[] = {&d.q, &d.o, &d.d_o, &d.dq}, *narrow[] = {&d.k, &d.v, &d.dk, &d.dv};
    for (uint32_t i = 0; i < 4; i++) {
        *wide[i] = normal(compute, rows, qc, i);
        *narrow[i] = normal(compute, rows, kc, 10 + i);
    }
    d.lse = normal(backend_real(d.b), rows, sh->heads, 20);
    return d;
}
static void attention_free(struct attention_data *d) {
    struct tensor *all[] = {&d->q, &d->k, &d->v, &d->o, &d->lse, &d->d_o, &d->dq, &d->dk, &d->dv};
    for (int i = 0; i < 9; i++) mem_free(all[i]->data);
    backend_free(&d->b);
}
static void attention_run(struct attention_data *d, const struct attn_seq *seqs, int64_t n,
                          const struct attn_shape *sh) {
    be_attention_fwd(d->s, d->o, d->lse, d->q, d->k, d->v, seqs, n, sh);
    be_attention_bwd(d->s, d->dq, d->dk, d->dv, d->d_o, d->o, d->lse, d->q, d->k, d->v, seqs, n,
                     sh);
}

static const struct attn_seq packed[] = {
    {0, 70, 0, 70}, {70, 1, 70, 1}, {71, 130, 71, 130}, {201, 9, 201, 9}};
static const struct attn_shape packed_shapes[] = {{6, 2, 16, 0, 0.25}, {3, 3, 24, 40, 0.2}};
enum { PACKED_ROWS = 210 };

static void attention_naive(void **state) {
    (void)state;
    static const enum dtype acts[] = {DT_F64, DT_F32, DT_BF16};
    /* The rounding of o, and errors of P as in tests/kern/test_kern.c: far below 2^-18 here. */
    static const double bounds[] = {1e-12, 0x1p-18, 0x1p-8};
    for (int i = 0; i < 6; i++) {
        const struct attn_shape *sh = &packed_shapes[i % 2];
        struct attention_data d = attention_new(acts[i / 2], sh, PACKED_ROWS);
        attention_run(&d, packed, 4, sh);
        for (int n = 0; n < 4; n++)
            for (int64_t r = 0; r < packed[n].n_q; r += 3)
                for (int64_t h = 0; h < sh->heads; h++) {
                    double want[64];
                    naive_row(d.q, d.k, d.v, &packed[n], sh, r, h, want);
                    for (int64_t c = 0; c < sh->head_dim; c++) {
                        double got = at(d.o, packed[n].q_row + r, h * sh->head_dim + c);
                        assert_true(fabs(got - want[c]) <= bounds[i / 2] * (1 + fabs(want[c])));
                    }
                }
        attention_free(&d);
    }
}

/* One call for all sequences gives the bits of one call each, on one thread or two; so does
 * decoding a row with what came before as keys (F64: the same kernel rows). */
static void attention_packed(void **state) {
    (void)state;
    static const enum dtype acts[] = {DT_F32, DT_BF16};
    for (int i = 0; i < 4; i++) {
        const struct attn_shape *sh = &packed_shapes[i % 2];
        struct attention_data all = attention_new(acts[i / 2], sh, PACKED_ROWS);
        struct attention_data one = attention_new(acts[i / 2], sh, PACKED_ROWS);
        threads_set(2);
        attention_run(&all, packed, 4, sh);
        threads_set(1);
        for (int n = 0; n < 4; n++) attention_run(&one, &packed[n], 1, sh);
        threads_set(0);
        struct tensor a[] = {all.o, all.lse, all.dq, all.dk, all.dv};
        struct tensor b[] = {one.o, one.lse, one.dq, one.dk, one.dv};
        for (int t = 0; t < 5; t++)
            assert_memory_equal(a[t].data, b[t].data,
                                (size_t)(a[t].rows * a[t].cols) * dtype_size(a[t].dtype));
        struct attn_seq decode = {200, 1, 71, 130}; /* the last row of the third sequence */
        be_attention_fwd(one.s, one.dq, (struct tensor){0}, one.q, one.k, one.v, &decode, 1, sh);
        size_t row = (size_t)one.o.cols * dtype_size(one.o.dtype);
        assert_memory_equal(tensor_rows(one.dq, 200, 1).data, tensor_rows(all.o, 200, 1).data, row);
        attention_free(&all);
        attention_free(&one);
    }
}

/* ---- movement ---- */

static void rows_moved(void **state) {
    (void)state;
    enum { WIDTH = 20003 }; /* enough for the sums to be shared out */
    struct backend *b = open_backend(DT_BF16);
    struct stream *s = backend_stream(b);
    struct tensor table = normal(DT_BF16, 50, WIDTH, 1), got = normal(DT_F32, 7, WIDTH, 2);
    static const int32_t index[7] = {3, 49, 3, 0, 20, 3, 49};
    be_gather_rows(s, got, table, index);
    for (int64_t i = 0; i < 7; i++)
        for (int64_t c = 0; c < WIDTH; c++) assert_true(at(got, i, c) == at(table, index[i], c));
    /* Repeated indices are added in order: the f32 sum of a fixed order, on any threads. */
    struct tensor sum = normal(DT_F32, 50, WIDTH, 3), again = normal(DT_F32, 50, WIDTH, 3);
    static float want[WIDTH];
    for (int c = 0; c < WIDTH; c++) {
        want[c] = (float)at(sum, 3, c);
        for (int i = 0; i < 7; i++)
            if (index[i] == 3) want[c] += (float)at(got, i, c);
    }
    be_scatter_add_rows(s, sum, got, index);
    threads_set(1);
    be_scatter_add_rows(s, again, got, index);
    threads_set(0);
    for (int c = 0; c < WIDTH; c++) assert_true((float)at(sum, 3, c) == want[c]);
    assert_memory_equal(sum.data, again.data, 50 * WIDTH * sizeof(float));
    static const int32_t distinct[3] = {9, 1, 4};
    be_scatter_rows(s, table, tensor_rows(got, 0, 3), distinct);
    for (int64_t c = 0; c < WIDTH; c++) assert_true(at(table, 1, c) == at(got, 1, c));
    /* Views: a block of columns scaled into another type. */
    be_scale_copy(s, tensor_cols(tensor_rows(sum, 2, 3), 5, 9),
                  tensor_cols(tensor_rows(got, 1, 3), 20, 9), 2);
    assert_true(at(sum, 4, 13) == 2 * at(got, 3, 28));
    be_axpy(s, tensor_cols(sum, 0, 1), -1, tensor_cols(sum, 0, 1));
    for (int r = 0; r < 50; r++) assert_true(at(sum, r, 0) == 0);
    struct tensor *all[] = {&table, &got, &sum, &again};
    for (int i = 0; i < 4; i++) mem_free(all[i]->data);
    backend_free(&b);
}

static void sums_do_not_depend_on_layout(void **state) {
    (void)state;
    struct backend *b = open_backend(DT_F32);
    struct stream *s = backend_stream(b);
    struct tensor x = normal(DT_F32, 300, 5000, 1), gaps = normal(DT_F32, 300, 5003, 2);
    be_copy(s, tensor_cols(gaps, 0, 5000), x);
    double want = 0, dense = be_sum_squares(s, x);
    for (int64_t i = 0; i < 300 * 5000; i++) want += at(x, 0, i) * at(x, 0, i);
    assert_true(fabs(dense - want) <= 1500000 * 0x1p-53 * want);
    assert_true(dense == be_sum_squares(s, tensor_cols(gaps, 0, 5000)));
    threads_set(1);
    assert_true(dense == be_sum_squares(s, x));
    threads_set(0);
    ((float *)x.data)[777] = INFINITY;
    assert_true(isinf(be_sum_squares(s, x)));
    ((float *)x.data)[778] = NAN;
    assert_true(isnan(be_sum_squares(s, x)));
    mem_free(x.data);
    mem_free(gaps.data);
    backend_free(&b);
}

/* ---- dropout ---- */

/* The definition: element e of the key's numbers is kept where its word of Philox is at least p in its upper 24
 * bits. */
static bool keeps(const struct dropout_key *key, uint64_t e) {
    struct rng_words r = rng_words(key->seed, key->stream, key->step, e / 4);
    return (double)(r.w[e % 4] >> 8) >= key->p * 0x1p24;
}
static struct tensor mask_new(int64_t rows, int64_t cols) {
    int64_t bytes = dropout_mask_bytes(cols);
    return tensor_of(mem_calloc(MEM_OTHER, (size_t)(rows * bytes), 1), DT_U8, rows, bytes);
}
static bool mask_bit(struct tensor mask, int64_t row, int64_t col) {
    return ((uint8_t *)mask.data)[row * mask.ld + col / 8] >> (col % 8) & 1;
}

/* The masks follow the keys, however the rows are cut; as many are dropped as p says. */
static void dropout_masks(void **state) {
    (void)state;
    enum { ROWS = 40, COLS = 2501 };
    struct backend *b = open_backend(DT_F32);
    struct stream *s = backend_stream(b);
    struct tensor mask = mask_new(ROWS, COLS), again = mask_new(ROWS, COLS);
    size_t bytes = (size_t)(ROWS * mask.ld);
    uint64_t keys[ROWS];
    for (int i = 0; i < ROWS; i++) keys[i] = (uint64_t)(1000 - 7 * i);
    struct dropout_key key = {.seed = 4, .stream = 5, .step = 6, .p = 0.05};
    be_dropout_mask(s, mask, COLS, &key, keys);
    int64_t dropped = 0;
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t c = 0; c < COLS; c++) {
            assert_int_equal(mask_bit(mask, r, c), keeps(&key, keys[r] * COLS + (uint64_t)c));
            dropped += !mask_bit(mask, r, c);
        }
        for (int64_t c = COLS; c < 8 * mask.cols; c++) assert_false(mask_bit(mask, r, c));
    }
    /* Binomial: 5002 +- 69; five standard deviations. */
    double n = ROWS * COLS, sd = sqrt(n * 0.05 * 0.95);
    assert_true(fabs((double)dropped - 0.05 * n) < 5 * sd);
    /* The same rows cut otherwise, in another order. */
    for (int64_t r = ROWS - 1; r >= 0; r--)
        be_dropout_mask(s, tensor_rows(again, r, 1), COLS, &key, keys + r);
    assert_memory_equal(mask.data, again.data, bytes);
    threads_set(1);
    be_dropout_mask(s, again, COLS, &key, keys);
    threads_set(0);
    assert_memory_equal(mask.data, again.data, bytes);
    key.step = 7;
    be_dropout_mask(s, again, COLS, &key, keys);
    assert_true(memcmp(mask.data, again.data, bytes) != 0);
    mem_free(mask.data);
    mem_free(again.data);
    backend_free(&b);
}

/* kept = x m / (1 - p), change = kept - x, rounded once; in place too. */
static void dropout_values(void **state) {
    (void)state;
    enum { ROWS = 33, COLS = 4099 };
    struct backend *b = open_backend(DT_BF16);
    struct stream *s = backend_stream(b);
    struct tensor x = normal(DT_BF16, ROWS, COLS, 1), mask = mask_new(ROWS, COLS);
    struct tensor kept = normal(DT_BF16, ROWS, COLS, 3), change = normal(DT_F32, ROWS, COLS, 3);
    assert_int_equal(dropout_mask_bytes(64), 8);
    assert_int_equal(dropout_mask_bytes(COLS), 520);
    for (int64_t i = 0; i < ROWS * COLS; i += 11) ((bf16 *)x.data)[i] = bf16_from_f32(INFINITY);
    uint64_t keys[ROWS];
    for (int i = 0; i < ROWS; i++) keys[i] = (uint64_t)(900 - 7 * i);
    struct dropout_key key = {.seed = 4, .stream = 5, .step = 6, .p = 0.05};
    be_dropout_mask(s, mask, COLS, &key, keys);
    be_dropout_apply(s, kept, change, x, mask, key.p);
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t c = 0; c < COLS; c++) {
            bool keep = keeps(&key, keys[r] * COLS + (uint64_t)c);
            float v = (float)at(x, r, c), scaled = keep ? v * (float)(1.0 / 0.95) : 0.0f;
            assert_int_equal(((bf16 *)kept.data)[r * COLS + c], bf16_from_f32(scaled));
            float got = (float)at(change, r, c);
            assert_true(isinf(v) && keep ? isnan(got) : got == scaled - v);
        }
    be_dropout_apply(s, x, (struct tensor){0}, x, mask, key.p);
    assert_memory_equal(kept.data, x.data, ROWS * COLS * sizeof(bf16));
    /* p = 0 keeps all. */
    key.p = 0;
    be_dropout_mask(s, mask, COLS, &key, keys);
    be_dropout_apply(s, kept, change, x, mask, key.p);
    assert_memory_equal(kept.data, x.data, ROWS * COLS * sizeof(bf16));
    struct tensor *all[] = {&x, &kept, &change, &mask};
    for (int i = 0; i < 4; i++) mem_free(all[i]->data);
    backend_free(&b);
}

/* ---- AdamW ---- */

/* Five steps of torch.optim.AdamW (2.x, f64; lr 1e-2, betas (0.9, 0.999), eps 1e-8, weight decay
 * 0.1) on p = (1, -2, 0.5) with gradients g_t = (0.1 t, -0.2, 0.3 (-1)^t); recorded by
 * tools/golden/adamw.py. */
static const double torch_adamw[5][3] = {
    {0.9890000009999999, -1.9880000005, 0.5094999996666667},
    {0.9783591813511252, -1.9760120009995001, 0.5084641838950702},
    {0.9678008103721331, -1.9640359894985007, 0.5113136531785798},
    {0.9572289072199184, -1.9520719540090021, 0.5102760237534714},
    {0.9465993042736577, -1.9401198825549932, 0.5118098979875789},
};

static void adamw_torch(void **state) {
    (void)state;
    struct backend *b = open_backend(DT_F64);
    struct stream *s = backend_stream(b);
    double p[3] = {1, -2, 0.5}, m[3] = {0}, v[3] = {0}, base[3] = {0.75, -1, 0}, delta[3], copy[3];
    for (int i = 0; i < 3; i++) delta[i] = p[i] - base[i];
    double dm[3] = {0}, dv[3] = {0};
    for (int t = 1; t <= 5; t++) {
        double g[3] = {0.1 * t, -0.2, t % 2 ? -0.3 : 0.3};
        struct adamw h = {1e-2, 0.9, 0.999, 1e-8, 0.1, 1 - pow(0.9, t), 1 - pow(0.999, t), 1};
        struct tensor tg = tensor_of(g, DT_F64, 1, 3);
        be_adamw(s, tensor_of(p, DT_F64, 1, 3), tensor_of(m, DT_F64, 1, 3),
                 tensor_of(v, DT_F64, 1, 3), tg, (struct tensor){0}, tensor_of(copy, DT_F64, 1, 3),
                 &h);
        /* The same parameter as a frozen base and a trained rest; gradients scaled by 2 and back. */
        for (int i = 0; i < 3; i++) g[i] *= 2;
        h.grad_scale = 0.5;
        be_adamw(s, tensor_of(delta, DT_F64, 1, 3), tensor_of(dm, DT_F64, 1, 3),
                 tensor_of(dv, DT_F64, 1, 3), tg, tensor_of(base, DT_F64, 1, 3), (struct tensor){0},
                 &h);
        for (int i = 0; i < 3; i++) {
            assert_true(fabs(p[i] - torch_adamw[t - 1][i]) < 1e-14);
            assert_true(copy[i] == p[i]);
            assert_true(fabs(base[i] + delta[i] - p[i]) < 1e-14);
        }
    }
    backend_free(&b);
}

/* ---- opening ---- */

static void opening(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct backend *b = NULL;
    assert_fails(backend_open("cuda", DT_F32, &b, &err), MIL_UNSUPPORTED, "CUDA");
    assert_null(b);
    assert_fails(backend_open("tpu", DT_F32, &b, &err), MIL_UNSUPPORTED, "'tpu'");
    assert_fails(backend_open("cpu", DT_F16, &b, &err), MIL_UNSUPPORTED, "F16");
    for (long n = 0; n < 2; n++) { /* every allocation fails once, cleanly */
        mem_fail_after(n);
        enum mil_status st = backend_open("cpu", DT_F32, &b, &err);
        mem_fail_after(-1);
        assert_int_equal(st, MIL_NOMEM);
        assert_null(b);
    }
    assert_ok(backend_open("cpu", DT_BF16, &b, &err));
    assert_string_equal(backend_name(b), "cpu");
    assert_int_equal(backend_act(b), DT_BF16);
    assert_int_equal(backend_real(b), DT_F32);
    assert_non_null(strstr(backend_describe(b), "thread"));
    /* A failed scratch allocation sticks to the stream and is reported once. */
    struct tensor x = normal(DT_F32, 3, 3, 1);
    mem_fail_after(0);
    double sum = be_sum_squares(backend_stream(b), x);
    mem_fail_after(-1);
    assert_true(isnan(sum));
    assert_fails(stream_sync(backend_stream(b), &err), MIL_NOMEM, "memory");
    assert_ok(stream_sync(backend_stream(b), &err));
    mem_free(x.data);
    backend_free(&b);
    backend_free(&b);
}

int main(void) {
    printf("seed %d\n", SEED);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_rmsnorm),
        cmocka_unit_test(gradient_rope),
        cmocka_unit_test(gradient_swiglu),
        cmocka_unit_test(gradient_bias),
        cmocka_unit_test(gradient_cross_entropy),
        cmocka_unit_test(gradient_linear),
        cmocka_unit_test(gradient_attention),
        cmocka_unit_test(attention_naive),
        cmocka_unit_test(attention_packed),
        cmocka_unit_test(rows_moved),
        cmocka_unit_test(sums_do_not_depend_on_layout),
        cmocka_unit_test(dropout_masks),
        cmocka_unit_test(dropout_values),
        cmocka_unit_test(adamw_torch),
        cmocka_unit_test(opening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
