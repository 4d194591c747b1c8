/* SPDX-License-Identifier: Apache-2.0 */
/* test_golden.c - small random models of every family against transformers: logits, loss and all
 * gradients (tools/golden/record_tiny_llama.py).
 *
 * Bounds, relative to the largest entry of a tensor.  The recording runs in f64 except norms and
 * rotary tables (f32) and is stored in f32: our f64 run meets ten such roundings on a path, each at
 * most 2^-24, and the layers here amplify a relative change by less than 16:  10 * 16 * 2^-24 =
 * 1e-5.  In f32 a path has about 40 sums of at most 24 terms more; their errors add like a random
 * walk: 16 * sqrt(40 * 24) * 2^-24 = 3e-5.  In bf16 weights, norm outputs, q, k, v, o, g, u, h are
 * rounded (2^-9), and on the way back their gradients: about 60 roundings on a gradient's path,
 * sqrt(60) * 2^-9 * 16 = 0.24 at most; the mean over a tensor, which is what a systematic mistake
 * moves, by half the amplification: 0.12 (q and k, whose gradients pass the softmax's cancelling
 * difference, come nearest: 0.07).  The softmax does not change when all keys move alike, so the
 * gradient of k's bias is itself a difference of nearly equal sums: four times the bounds. */
#include "model/support.h"

#include "io/safetensors.h"

static const double f64_bound = 1e-5, f32_bound = 3e-5, bf16_bound = 0.24, bf16_mean_bound = 0.12;

struct golden {
    struct st_file *f;
    struct test_batch batch;
    double loss;
};

static struct tensor golden_tensor(const struct golden *g, const char *name) {
    const struct st_tensor *t = st_find(g->f, name);
    if (!t) fail_msg("the recording lacks %s", name);
    int64_t cols = t->shape[t->ndim - 1], rows = t->ndim == 2 ? t->shape[0] : 1;
    return tensor_of((void *)(uintptr_t)t->data, t->dtype, rows, cols);
}

static void golden_open(struct golden *g, const char *dir) {
    struct mil_error err = {0};
    char path[600];
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, "%s/golden.safetensors", dir);
    assert_ok(st_open(path, &g->f, &err));
    const int32_t *ids = st_find(g->f, "ids")->data, *n = st_find(g->f, "lengths")->data;
    int32_t masked = *(const int32_t *)st_find(g->f, "masked")->data;
    batch_add(&g->batch, ids, n[0], masked, 0);
    batch_add(&g->batch, ids + n[0], n[1], masked, 100);
    memcpy(&g->loss, st_find(g->f, "loss")->data, sizeof g->loss);
}

/* Mean |a - b| over mean |b|. */
static double mean_error(struct tensor a, struct tensor b) {
    double d = 0, scale = 0;
    for (int64_t i = 0; i < a.rows * a.cols; i++) {
        d += fabs(element_of(a, i) - element_of(b, i));
        scale += fabs(element_of(b, i));
    }
    return d / scale;
}

static void check_tensor(const char *what, struct tensor got, struct tensor want, enum dtype t) {
    double factor = strstr(what, "k_proj.bias") ? 4 : 1, mean = mean_error(got, want);
    double bound = t == DT_F64 ? f64_bound : t == DT_F32 ? f32_bound : bf16_bound;
    assert_close(what, got, want, factor * bound);
    if (t == DT_BF16 && !(mean <= factor * bf16_mean_bound))
        fail_msg("%s: mean error %.3g, bound %.3g", what, mean, factor * bf16_mean_bound);
}

static void check_logits(struct opened *o, const struct golden *g, enum dtype t) {
    struct mil_error err = {0};
    struct infer *s = NULL;
    const struct batch *b = &g->batch.b;
    struct infer_options options = {2, TEST_MAX_TOKENS, TEST_MAX_TOKENS, TEST_MAX_TOKENS};
    static float logits[TEST_MAX_TOKENS * 64];
    int32_t slot[] = {1, 0};
    int64_t past[] = {0, 0}, n[] = {b->seqs[0].n_q, b->seqs[1].n_q};
    struct infer_call call = {b->ids, slot, past, n, 2, true, logits};
    assert_ok(infer_new(o->m, &options, &s, &err));
    assert_ok(infer_run(s, &call, &err));
    check_tensor("logits", tensor_of(logits, DT_F32, b->tokens, o->m->config.vocab),
                 golden_tensor(g, "logits"), t);
    infer_free(&s);
}

static void check_gradients(struct opened *o, const struct golden *g, enum dtype t) {
    struct mil_error err = {0};
    struct step *s = open_step(o->m, 5, false);
    struct trainable *all = full_trainable(o->full);
    double loss;
    zero_gradients(o);
    assert_ok(step_run(s, &g->batch.b, &loss, &err));
    loss *= g->batch.b.loss_scale;
    double bound = t == DT_F64 ? f64_bound : t == DT_F32 ? f32_bound : bf16_mean_bound;
    if (!(fabs(loss - g->loss) <= bound * g->loss)) fail_msg("loss %.9g, want %.9g", loss, g->loss);
    for (size_t i = 0; i < all->n; i++) {
        char name[160];
        snprintf(name, sizeof name, "grad.%s", all->params[i].name);
        check_tensor(name, all->params[i].grad, golden_tensor(g, name), t);
    }
    step_free(&s);
}

static void check_family(const char *name) {
    static const enum dtype types[] = {DT_F64, DT_F32, DT_BF16};
    struct golden g;
    char dir[560];
    snprintf(dir, sizeof dir, "%s/%s", TEST_DATA, name);
    golden_open(&g, dir);
    for (int i = 0; i < 3; i++) {
        struct opened o = open_dir(dir, types[i], false);
        check_logits(&o, &g, types[i]);
        struct mil_error err = {0};
        assert_ok(full_new(o.m, &o.full, &err));
        check_gradients(&o, &g, types[i]);
        opened_close(&o);
    }
    st_free(&g.f);
}

static void test_llama(void **state) {
    (void)state;
    check_family("llama");
}
static void test_mistral(void **state) {
    (void)state;
    check_family("mistral");
}
static void test_qwen2(void **state) {
    (void)state;
    check_family("qwen2");
}
static void test_llama3(void **state) {
    (void)state;
    check_family("llama3");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_llama), cmocka_unit_test(test_mistral),
                                       cmocka_unit_test(test_qwen2), cmocka_unit_test(test_llama3)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
