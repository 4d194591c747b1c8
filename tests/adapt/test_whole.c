/* SPDX-License-Identifier: Apache-2.0 */
/* Whole tensors beside the factors (modules_to_save, bias) of an untied Qwen2 with biases:
 *   - an adapter at step 0 changes nothing, so their gradients are those of full fine-tuning on the same batch, which
 *     has finite differences of its own (tests/model); the terms of an adapter with B = 0 add zeros, hence equal floats;
 *   - while attached they stand in the model's place, afterwards the base does again;
 *   - what cannot be asked for is refused. */
#include "fixture.h"

#include "adapt/whole.h"
#include "core/str.h"

enum { TOKENS = 9, ROWS = 5 };
static const int32_t ids[TOKENS] = {3, 17, 5, 5, 39, 0, 8, 21, 3};
static const int32_t position[TOKENS] = {0, 1, 2, 3, 4, 0, 1, 2, 3};
static const int32_t row[ROWS] = {0, 2, 3, 5, 7}, label[ROWS] = {17, 5, 39, 8, 3};
static const uint64_t row_key[TOKENS] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
static const struct attn_seq seqs[2] = {{0, 5, 0, 5}, {5, 4, 5, 4}};

static double run_batch(struct model *m, bool recompute) {
    const struct batch b = {.tokens = TOKENS,
                            .ids = ids,
                            .position = position,
                            .seqs = seqs,
                            .n_seqs = 2,
                            .row_key = row_key,
                            .row = row,
                            .label = label,
                            .n_rows = ROWS,
                            .loss_scale = 1.0 / ROWS};
    const struct step_options o = {TOKENS, ROWS, 3, recompute};
    struct step *s;
    double loss;
    assert_ok(step_new(m, &o, &s, &err));
    assert_ok(step_run(s, &b, &loss, &err));
    step_free(&s);
    return loss;
}

static struct checkpoint *open_qwen2(void) {
    struct checkpoint *c;
    assert_ok(checkpoint_open(TEST_DATA "/base-qwen2", CHECKPOINT_WEIGHTS, &c, &err));
    return c;
}

static const struct param *param_named(const struct trainable *t, const char *name) {
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->params[i].name, name)) return &t->params[i];
    fail_msg("no param %s", name);
    return NULL;
}

static void expect_equal(const struct param *a, const struct param *b) {
    int64_t n = a->grad.rows * a->grad.cols;
    bool any = false;
    assert_int_equal(n, b->grad.rows * b->grad.cols);
    for (int64_t i = 0; i < n; i++) {
        float x = ((const float *)a->grad.data)[i], y = ((const float *)b->grad.data)[i];
        if (x != y) fail_msg("gradient of %s [%lld]: %a, full has %a", a->name, (long long)i, x, y);
        any |= x != 0;
    }
    if (!any) fail_msg("gradient of %s is zero", a->name);
}

static struct adapter_options whole_options(const char *method) {
    static const char *const saved[] = {"embed_tokens", "lm_head"};
    struct adapter_options o = options_of(method, 2);
    o.saved_modules = saved;
    o.n_saved_modules = 2;
    o.bias = BIAS_ALL;
    return o;
}

/* The base, a model of it on a backend, an adapter of it. */
struct rig {
    struct checkpoint *base;
    struct backend *b;
    struct model *m;
    struct adapter *a;
    struct adapter_runtime *rt;
};

static void rig_open(struct rig *r, const struct adapter_options *o, enum dtype compute) {
    *r = (struct rig){.base = open_qwen2()};
    assert_ok(backend_open("cpu", compute, &r->b, &err));
    assert_ok(model_new(r->base, r->b, 16, &r->m, &err));
    assert_ok(adapter_init(r->base, o, NULL, NULL, &r->a, &err));
}

static void rig_close(struct rig *r) {
    adapter_detach(&r->rt);
    adapter_free(&r->a);
    model_free(&r->m);
    backend_free(&r->b);
    checkpoint_free(&r->base);
}

/* The gradients of r's wholes on the batch beside those of full fine-tuning. */
static void compare_with_full(struct rig *r, bool recompute) {
    struct model *m;
    struct full *full;
    assert_ok(model_new(r->base, r->b, 16, &m, &err));
    assert_ok(full_new(m, &full, &err));
    double want = run_batch(m, false);
    assert_ok(adapter_attach(r->a, r->m, true, &r->rt, &err));
    assert_true(run_batch(r->m, recompute) == want);
    const struct trainable *t = adapter_trainable(r->rt);
    for (size_t i = t->n - r->a->n_wholes; i < t->n; i++)
        expect_equal(&t->params[i], param_named(full_trainable(full), t->params[i].name));
    assert_int_equal(t->elements, adapter_elements(r->a));
    adapter_detach(&r->rt);
    full_free(&full);
    model_free(&m);
}

static void gradients_are_those_of_full(void **state) {
    (void)state;
    struct adapter_options o = whole_options("lora");
    struct rig r;
    rig_open(&r, &o, DT_F32);
    assert_int_equal(r.a->n_wholes,
                     2 + 3 * (size_t)r.base->config.layers); /* q, k, v have biases */
    compare_with_full(&r, false);
    compare_with_full(&r, true);
    rig_close(&r);
}

/* Only the embeddings train: the backward pass reaches them though no layer needs it. */
static void embeddings_alone(void **state) {
    (void)state;
    static const int64_t last[] = {1};
    struct adapter_options o = whole_options("lora");
    struct rig r;
    o.n_saved_modules = 1;
    o.bias = BIAS_NONE;
    o.layers = last;
    o.n_layers = 1;
    rig_open(&r, &o, DT_F32);
    assert_int_equal(r.a->n_wholes, 1);
    compare_with_full(&r, false);
    rig_close(&r);
}

/* In bf16 the head is an operand: what is attached counts, and the base is back afterwards. */
static void attached_and_detached(void **state) {
    (void)state;
    struct adapter_options o = whole_options("milora");
    struct rig r;
    rig_open(&r, &o, DT_BF16);
    const struct tensor embed = r.m->embed, head = r.m->head,
                        bias = r.m->layers[0].linear[MODULE_Q].b;
    struct whole *whole_head = &r.a->wholes[1];
    double before = run_batch(r.m, false);
    assert_ok(adapter_attach(r.a, r.m, true, &r.rt, &err));
    assert_true(run_batch(r.m, false) == before);
    adapter_detach(&r.rt);
    assert_int_equal(whole_head->kind, WHOLE_HEAD);
    for (int64_t i = 0; i < whole_head->rows * whole_head->cols; i++) whole_head->value[i] *= 1.5f;
    assert_ok(adapter_attach(r.a, r.m, false, &r.rt, &err));
    assert_true(run_batch(r.m, false) != before);
    adapter_detach(&r.rt);
    assert_memory_equal(&r.m->embed, &embed, sizeof embed);
    assert_memory_equal(&r.m->head, &head, sizeof head);
    assert_memory_equal(&r.m->layers[0].linear[MODULE_Q].b, &bias, sizeof bias);
    assert_null(r.m->d_head.data);
    assert_true(run_batch(r.m, false) == before);
    rig_close(&r);
}

/* PEFT's optimiser for LoRA+ gives B's rate to all vectors, A's to matrices that are not B. */
static void rates_of_lora_plus(void **state) {
    (void)state;
    struct adapter_options o = whole_options("lora_plus");
    struct rig r;
    o.lr_ratio = 5;
    rig_open(&r, &o, DT_F32);
    assert_ok(adapter_attach(r.a, r.m, true, &r.rt, &err));
    const struct trainable *t = adapter_trainable(r.rt);
    for (size_t i = t->n - r.a->n_wholes; i < t->n; i++) {
        bool bias = str_ends(t->params[i].name, ".bias");
        assert_true(t->params[i].rate == (bias ? 5 : 1) && t->params[i].decay == !bias);
    }
    rig_close(&r);
}

static void refusals(void **state) {
    (void)state;
    static const char *const norm[] = {"norm"};
    struct checkpoint *llama = open_base(), *qwen2 = open_qwen2();
    struct adapter_options o = options_of("lora", 2);
    struct adapter *a;
    o.saved_modules = norm;
    o.n_saved_modules = 1;
    assert_fails(adapter_init(llama, &o, NULL, NULL, &a, &err), MIL_USAGE,
                 "modules_to_save: 'norm' cannot be trained as a whole");
    o.n_saved_modules = 0;
    o.bias = BIAS_ALL;
    assert_fails(adapter_init(llama, &o, NULL, NULL, &a, &err), MIL_USAGE,
                 "the modules of this model have none");
    static const char *const down[] = {"down_proj"};
    o.bias = BIAS_LORA_ONLY;
    o.targets = down;
    o.n_targets = 1;
    assert_fails(adapter_init(qwen2, &o, NULL, NULL, &a, &err), MIL_USAGE,
                 "the adapted modules have none");
    checkpoint_free(&qwen2);
    checkpoint_free(&llama);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_full),
        cmocka_unit_test(embeddings_alone),
        cmocka_unit_test(attached_and_detached),
        cmocka_unit_test(rates_of_lora_plus),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
