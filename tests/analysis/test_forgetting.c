/* SPDX-License-Identifier: Apache-2.0 */
/* test_forgetting.c - a row by closed forms; the measure against PyTorch and PEFT (tools/golden/record_forgetting.py),
 * against itself under every cut, at step 0, and where it must end.
 *
 * Bound against the recording.  Both sides' logits are f64, ours then rounded to f32, u = 2^-24: each is off by u Z at
 * most, Z the largest logit.  H(p, q) = - sum p log q moves with a logit of q by q_v - p_v, whose sizes sum to 2 at
 * most; with a logit of p by p_v (- log q_v - H), whose sizes sum to 2 L at most, L = - min log q.  So 2 (1 + L) u Z, the
 * difference of two such sums twice that; f64's own rounding is 1e-9 of it.  In f32 the logits come from sums of at
 * most 48 terms in a few dozen operations: 1e4 u instead of u is far above that and far below what an error of meaning
 * would show. */
#include "check.h"

#include <math.h>

#include "analysis/forgetting.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"
#include "io/json.h"

#define ADAPT_DATA TEST_ROOT "/tests/adapt/data/"
enum { VOCAB = 40 };

static struct mil_error err;

/* ---- rows ---- */

static void fill(float *x, int64_t n, uint32_t stream, double size) {
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(size * rng_normal(9, rng_stream(RNG_TEST, stream), 0, (uint64_t)i));
}

/* The definition, in long double, without shifts. */
static double by_definition(const float *p, const float *q, int64_t n) {
    long double sum_p = 0, sum_q = 0, h = 0;
    for (int64_t i = 0; i < n; i++) sum_p += expl(p[i]);
    for (int64_t i = 0; i < n; i++) sum_q += expl(q[i]);
    for (int64_t i = 0; i < n; i++) h -= expl(p[i]) / sum_p * (q[i] - logl(sum_q));
    return (double)h;
}

static void near(double got, double want, double bound) {
    if (!(fabs(got - want) <= bound)) fail_msg("got %.17g, want %.17g +- %.3g", got, want, bound);
}

/* Sums of n terms of one sign: n eps of themselves and a few eps of each term. */
static void test_row_definition(void **state) {
    (void)state;
    static float p[1000], q[1000];
    for (int64_t n = 1; n <= 1000; n += 111) {
        fill(p, n, (uint32_t)n, 3);
        fill(q, n, (uint32_t)n + 1, 3);
        double want = by_definition(p, q, n);
        near(forgetting_row(p, q, n), want, 2 * (double)n * 2.3e-16 * (want + 40));
    }
}

static void test_row_closed_forms(void **state) {
    (void)state;
    float flat[64], one[64], other[64], far[64];
    for (int i = 0; i < 64; i++) {
        flat[i] = 7;
        one[i] = i == 5 ? 3e38f : -3e38f;
        other[i] = i == 6 ? 3e38f : -3e38f;
        far[i] = i == 5 ? 50 : 0;
    }
    near(forgetting_row(flat, flat, 64), log(64), 1e-14);
    near(forgetting_row(one, flat, 64), log(64), 1e-14);
    near(forgetting_row(one, one, 64), 0, 0);
    near(forgetting_row(one, far, 64), 0, 64 * exp(-50));
    assert_true(forgetting_row(flat, one, 64) > 1e38); /* huge, but a number */
    assert_true(forgetting_row(other, one, 64) > 1e38);
    near(forgetting_row(flat, flat, 1), 0, 0);
}

/* A power of two added to all is exact in f32 here: not a bit may change. */
static void test_row_shift(void **state) {
    (void)state;
    float p[64], q[64], shifted[64];
    fill(p, 64, 50, 2);
    fill(q, 64, 51, 2);
    for (int i = 0; i < 64; i++) {
        q[i] = roundf(q[i] * 1024) / 1024;
        shifted[i] = q[i] + 4096;
    }
    assert_true(forgetting_row(p, q, 64) == forgetting_row(p, shifted, 64));
}

static void test_row_not_finite(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        float p[3] = {0, 1, 2}, bad[3] = {0, 1, 2};
        bad[i] = NAN;
        assert_true(isnan(forgetting_row(p, bad, 3)));
        assert_true(isnan(forgetting_row(bad, p, 3)));
        bad[i] = INFINITY;
        assert_false(isfinite(forgetting_row(p, bad, 3)));
        assert_false(isfinite(forgetting_row(bad, p, 3)));
    }
}

/* ---- a model, a text, adapters ---- */

struct bench {
    struct checkpoint *base;
    struct backend *backend;
    struct model *model;
    struct corpus text; /* arrays of this struct */
    int32_t ids[400];
    int64_t begin[8];
};

static void bench_open(struct bench *b, enum dtype act, const int64_t *lengths, size_t documents) {
    memset(b, 0, sizeof *b);
    assert_ok(checkpoint_open(ADAPT_DATA "base", CHECKPOINT_WEIGHTS, &b->base, &err));
    assert_ok(backend_open("cpu", act, &b->backend, &err));
    assert_ok(model_new(b->base, b->backend, 64, &b->model, &err));
    for (size_t d = 0; d < documents; d++) b->begin[d + 1] = b->begin[d] + lengths[d];
    int64_t n = b->begin[documents];
    assert_true(n <= 400);
    for (int64_t i = 0; i < n; i++) b->ids[i] = (int32_t)((i * i * 31 + i * 7 + 3) % VOCAB);
    b->text = (struct corpus){
        .ids = b->ids, .begin = b->begin, .n_docs = (int64_t)documents, .n_tokens = n};
}

static void bench_close(struct bench *b) {
    model_free(&b->model);
    backend_free(&b->backend);
    checkpoint_free(&b->base);
}

/* All linear modules, a change of about `size` in what trains. */
static struct adapter *make(const struct bench *b, const char *method, double size) {
    static const char *const targets[] = {"all-linear"};
    struct adapter_options o = {
        .method = method, .r = 4, .targets = targets, .n_targets = 1, .seed = 42};
    struct adapter *a;
    assert_ok(adapter_init(b->base, &o, NULL, NULL, &a, &err));
    for (size_t i = 0; size > 0 && i < a->n; i++) {
        struct delta *d = &a->deltas[i];
        fill(d->da, d->r * d->n, (uint32_t)(2 * i), size);
        fill(d->db, d->m * d->r, (uint32_t)(2 * i + 1), size);
    }
    return a;
}

static struct mil_forgetting measure(const struct bench *b, struct adapter *a, int64_t window,
                                     int64_t most, int64_t call) {
    struct forgetting_subject subject = {"it", a, b->model};
    struct forgetting_job job = {b->model, &b->text, window, most, call, &subject, 1};
    struct mil_forgetting out;
    assert_ok(forgetting_measure(&job, NULL, NULL, &out, &err));
    return out;
}

/* ---- against the recording ---- */

static void against(const struct bench *b, struct adapter *a, const json_t *row, double u) {
    int64_t window = json_integer_value(json_object_get(row, "window"));
    struct mil_forgetting got =
        measure(b, a, window, json_integer_value(json_object_get(row, "max_tokens")), 0);
    double loss = json_real_value(json_object_get(row, "forgetting_loss")),
           entropy = json_real_value(json_object_get(row, "base_entropy")),
           z = json_real_value(json_object_get(row, "largest_logit")),
           l = -json_real_value(json_object_get(row, "lowest_log")), bound = 2 * (1 + l) * u * z;
    assert_int_equal(got.tokens, json_integer_value(json_object_get(row, "tokens")));
    assert_int_equal(got.window, window);
    near(got.forgetting_loss, loss, bound);
    near(got.base_entropy, entropy, bound);
    near(got.divergence, loss - entropy, 2 * bound);
    assert_true(loss - entropy >
                1000 * 2 * 2 * (1 + l) * 0x1p-24 * z); /* there is something to see */
}

static void check_recording(enum dtype act, double u) {
    json_t *root;
    const char *name;
    json_t *rows, *row;
    size_t i;
    struct bench b;
    const int64_t length = 200;
    assert_ok(json_read_file(TEST_DATA "/forgetting.json", &root, &err));
    bench_open(&b, act, &length, 1);
    const json_t *ids = json_object_get(root, "ids");
    assert_int_equal(json_array_size(ids), 200);
    for (i = 0; i < 200; i++)
        assert_int_equal(json_integer_value(json_array_get(ids, i)), b.ids[i]);
    json_object_foreach(json_object_get(root, "adapters"), name, rows) {
        char dir[512];
        struct adapter *a;
        snprintf(dir, sizeof dir, ADAPT_DATA "%s", name);
        assert_ok(adapter_load(dir, b.base, &a, &err));
        json_array_foreach(rows, i, row) against(&b, a, row, u);
        adapter_free(&a);
    }
    bench_close(&b);
    json_decref(root);
}

static void test_recording_f64(void **state) {
    (void)state;
    check_recording(DT_F64, 0x1p-24);
}

static void test_recording_f32(void **state) {
    (void)state;
    check_recording(DT_F32, 1e4 * 0x1p-24);
}

/* ---- against itself ---- */

/* At step 0 nothing has changed: the base's entropy, bit for bit. */
static void test_step_0(void **state) {
    (void)state;
    static const char *const methods[] = {"lora", "milora", "pissa", "mid", "random"};
    static const enum dtype types[] = {DT_BF16, DT_F32};
    const int64_t length = 100;
    for (int t = 0; t < 2; t++) {
        struct bench b;
        bench_open(&b, types[t], &length, 1);
        for (int m = 0; m < 5; m++) {
            struct adapter *a = make(&b, methods[m], 0);
            struct mil_forgetting f = measure(&b, a, 32, 0, 0);
            assert_true(f.forgetting_loss == f.base_entropy);
            assert_true(f.divergence == 0);
            assert_true(f.base_entropy > 1 && f.base_entropy < log(VOCAB));
            adapter_free(&a);
        }
        bench_close(&b);
    }
}

static void same(const struct mil_forgetting *a, const struct mil_forgetting *b) {
    assert_true(a->forgetting_loss == b->forgetting_loss);
    assert_true(a->base_entropy == b->base_entropy);
    assert_true(a->divergence == b->divergence);
    assert_true(a->tokens == b->tokens && a->window == b->window);
}

/* Pieces of a window, whole windows together, one at a time, on one thread and on two. */
static void test_cuts(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_BF16, DT_F32};
    static const int64_t windows[] = {1, 5, 16, 64}, calls[] = {1, 3, 17, 64, 130, 4096};
    const int64_t lengths[] = {70, 0, 1, 90};
    for (int t = 0; t < 2; t++) {
        struct bench b;
        bench_open(&b, types[t], lengths, 4);
        struct adapter *a = make(&b, "milora", 0.05);
        for (int w = 0; w < 4; w++) {
            threads_set(1);
            struct mil_forgetting want = measure(&b, a, windows[w], 150, 0);
            assert_int_equal(want.tokens, 150);
            assert_true(want.divergence > 1e-3);
            for (int c = 0; c < 6; c++) {
                threads_set(1 + c % 2);
                struct mil_forgetting got = measure(&b, a, windows[w], 150, calls[c]);
                same(&got, &want);
            }
        }
        adapter_free(&a);
        bench_close(&b);
    }
}

/* Windows do not reach over the end of a document: a text of three, one of them empty, is the mean of its parts. */
static void test_documents(void **state) {
    (void)state;
    const int64_t lengths[] = {30, 0, 45};
    struct bench all, part;
    bench_open(&all, DT_F32, lengths, 3);
    bench_open(&part, DT_F32, lengths, 1);
    struct adapter *a = make(&all, "lora", 0.1);
    struct mil_forgetting whole = measure(&all, a, 20, 0, 0), first = measure(&part, a, 20, 0, 0);
    memcpy(part.ids, all.ids + 30, 45 * sizeof *part.ids);
    part.begin[1] = part.text.n_tokens = 45;
    struct mil_forgetting second = measure(&part, a, 20, 1000, 0);
    assert_int_equal(whole.tokens, 75);
    assert_int_equal(second.tokens, 45);
    near(whole.forgetting_loss, (30 * first.forgetting_loss + 45 * second.forgetting_loss) / 75,
         1e-13);
    near(whole.base_entropy, (30 * first.base_entropy + 45 * second.base_entropy) / 75, 1e-13);
    adapter_free(&a);
    bench_close(&part);
    bench_close(&all);
}

/* Several at once are what each is by itself, and the base itself is no change. */
static void test_several(void **state) {
    (void)state;
    const int64_t length = 90;
    struct bench b, other;
    struct mil_forgetting out[4], alone;
    bench_open(&b, DT_BF16, &length, 1);
    bench_open(&other, DT_BF16, &length, 1);
    struct adapter *small = make(&b, "lora", 0.02), *large = make(&b, "pissa", 0.1);
    struct forgetting_subject subjects[] = {{"small", small, NULL},
                                            {"other", NULL, other.model},
                                            {"large", large, NULL},
                                            {"small", small, NULL}};
    struct forgetting_job job = {b.model, &b.text, 40, 0, 32, subjects, 4};
    assert_ok(forgetting_measure(&job, NULL, NULL, out, &err));
    alone = measure(&b, small, 40, 0, 0);
    same(&out[0], &alone);
    same(&out[3], &alone);
    alone = measure(&b, large, 40, 0, 0);
    same(&out[2], &alone);
    assert_true(out[1].forgetting_loss == out[1].base_entropy && out[1].divergence == 0);
    assert_true(out[2].divergence > out[0].divergence && out[0].divergence > 0);
    alone = measure(&b, NULL, 40, 0, 0); /* nothing is left attached */
    assert_true(alone.forgetting_loss == out[1].base_entropy);
    adapter_free(&large);
    adapter_free(&small);
    bench_close(&other);
    bench_close(&b);
}

/* ---- where it ends ---- */

static int stop_at(void *ctx, const struct mil_eval_progress *p) {
    int64_t *seen = ctx;
    assert_true(p->total == 100 && p->done > *seen);
    *seen = p->done;
    return 0;
}

static void test_ends(void **state) {
    (void)state;
    const int64_t length = 100;
    int64_t seen = 0;
    struct bench b;
    struct mil_forgetting out;
    bench_open(&b, DT_F32, &length, 1);
    struct adapter *a = make(&b, "lora", 0.1);
    struct forgetting_subject subject = {"spoiled", a, NULL};
    struct forgetting_job job = {b.model, &b.text, 10, 0, 10, &subject, 1};
    assert_fails(forgetting_measure(&job, stop_at, &seen, &out, &err), MIL_INTERRUPTED,
                 "after 10 of 100 tokens");
    a->deltas[0].db[0] = NAN;
    assert_fails(forgetting_measure(&job, NULL, NULL, &out, &err), MIL_NUMERIC,
                 "spoiled: the logits after token 1 of the text are not finite");
    b.ids[25] = VOCAB;
    a->deltas[0].db[0] = 0;
    assert_fails(forgetting_measure(&job, NULL, NULL, &out, &err), MIL_INPUT,
                 "outside the model's vocabulary");
    adapter_free(&a);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_definition), cmocka_unit_test(test_row_closed_forms),
        cmocka_unit_test(test_row_shift),      cmocka_unit_test(test_row_not_finite),
        cmocka_unit_test(test_recording_f64),  cmocka_unit_test(test_recording_f32),
        cmocka_unit_test(test_step_0),         cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_documents),      cmocka_unit_test(test_several),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
