/* SPDX-License-Identifier: Apache-2.0 */
/* test_combinations.c - every method of the table with use_rslora, use_dora, loraplus_lr_ratio, alone and together:
 * either it is refused with the method's reason, or the scale is right, the function at step 0 is the base's bit for
 * bit in f32, s B0 A0 is the part of W that the method alone would take, and the rates are those asked for.
 *
 * Tolerance of s B0 A0 against that of the method without flags: both are products of factors rounded to f32, entries
 * off by 2^-24 each, so an entry of the product by 2 * 2^-24 sum_t |b_t a_t| <= 2^-23 |b| |a| on either side: 2^-22 of
 * the largest ||b_i|| ||a_j|| is allowed. */
#include "logits.h"

#include "adapt/internal.h"

/* Bits of a combination. */
enum { RSLORA = 1, DORA = 2, RATIO = 4, COMBINATIONS = 8 };

/* A gradient for methods that start from one. */
static enum mil_status some_gradient(void *ctx, const struct delta *deltas, size_t n,
                                     float *const *g, struct mil_error *e) {
    (void)ctx, (void)e;
    for (size_t i = 0; i < n; i++)
        for (int64_t j = 0; j < deltas[i].m * deltas[i].n; j++)
            g[i][j] +=
                (float)normal((uint32_t)module_number(deltas[i].layer, deltas[i].module) + 90, j);
    return MIL_OK;
}

static struct adapter_options combine(const struct method *m, int flags) {
    struct adapter_options o = options_of(m->name, 4);
    o.alpha = 6;
    o.rslora = flags & RSLORA;
    o.dora = flags & DORA;
    o.lr_ratio = flags & RATIO ? 4 : 0;
    return o;
}

static enum mil_status make(const struct checkpoint *base, const struct method *m, int flags,
                            struct adapter **out) {
    const struct adapter_init_hooks hooks = {.gradients = some_gradient};
    struct adapter_options o = combine(m, flags);
    return adapter_init_with(base, &o, &hooks, out, &err);
}

/* The key that the method refuses first among the flags, and why; NULL: none. */
static const char *refused(const struct method *m, int flags, const char **reason) {
    const struct {
        int flag;
        const char *key, *reason;
    } rules[] = {{DORA, "use_dora", m->no_dora},
                 {RSLORA, "use_rslora", m->no_rslora},
                 {RATIO, "loraplus_lr_ratio", m->no_ratio}};
    for (int i = 0; i < 3; i++) {
        *reason = rules[i].reason;
        if ((flags & rules[i].flag) && rules[i].reason) return rules[i].key;
    }
    return NULL;
}

static void check_refusal(const struct checkpoint *base, const struct method *m, int flags,
                          const char *key, const char *reason) {
    struct adapter *a = NULL;
    char start[128];
    snprintf(start, sizeof start, "%s does not go with method '%s': ", key, m->name);
    assert_fails(make(base, m, flags, &a), MIL_USAGE, start);
    assert_non_null(strstr(err.message, reason));
    assert_null(a);
}

static void check_scale(const struct method *m, int flags, const struct delta *d) {
    double r = (double)d->r, s = (flags & RSLORA) || m->rslora ? 6 / sqrt(r) : 6 / r;
    if (m->form == DELTA_SCALED) s = 6 / (r + 1e-5);
    assert_true(fabs(delta_scale(d) - s) <= 4e-16 * s);
    assert_int_equal(d->dora, (flags & DORA) || m->dora);
    assert_int_equal(d->magnitude != NULL, d->dora);
    assert_int_equal(d->form, m->form);
}

static double part(const struct delta *d, int64_t i, int64_t j, double *size) {
    double sum = 0, a = 0, b = 0;
    for (int64_t t = 0; t < d->r; t++) {
        double bt = d->b0[i * d->r + t], at = d->a0[t * d->n + j];
        sum += bt * at;
        a += at * at;
        b += bt * bt;
    }
    *size = delta_scale(d) * sqrt(a * b);
    return delta_scale(d) * sum;
}

/* Pairs start from one part of W whatever s is; OLoRA's factors do not know s (its part is s Q_r R_r, as PEFT has it),
 * and a part of the gradient may be scaled with s.  Random starts are the same bits. */
static void check_start(const struct method *m, const struct delta *d, const struct delta *plain) {
    size_t a_bytes = (size_t)(d->r * d->n) * sizeof(float),
           b_bytes = (size_t)(d->r * d->m) * sizeof(float);
    if (m->needs_gradient) return;
    if (d->form != DELTA_PAIR || !method_decomposes(m)) {
        if (d->a0) assert_memory_equal(d->a0, plain->a0, a_bytes);
        if (d->b0) assert_memory_equal(d->b0, plain->b0, b_bytes);
        return;
    }
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t j = 0; j < d->n; j++) {
            double size[2];
            double have = part(d, i, j, &size[0]), want = part(plain, i, j, &size[1]);
            assert_true(fabs(have - want) <= 0x1p-22 * fmax(size[0], size[1]));
        }
}

/* Only what the form has trains; B, and the magnitude beside it, at lr_ratio times A's rate. */
static void check_rates(const struct checkpoint *base, struct adapter *a, int flags) {
    const struct method *m = a->method;
    double ratio = flags & RATIO ? 4 : m->lr_ratio > 0 ? m->lr_ratio : 1;
    struct backend *b;
    struct model *model;
    struct adapter_runtime *rt;
    size_t n_a = 0, n_b = 0, n_magnitude = 0;
    assert_ok(backend_open("cpu", DT_F32, &b, &err));
    assert_ok(model_new((struct checkpoint *)(uintptr_t)base, b, IDS, &model, &err));
    assert_ok(adapter_attach(a, model, true, &rt, &err));
    const struct trainable *t = adapter_trainable(rt);
    for (size_t i = 0; i < t->n; i++) {
        const struct param *p = &t->params[i];
        bool is_b = strstr(p->name, ".delta_B") != NULL,
             fast = is_b || strstr(p->name, ".magnitude"); /* PEFT: B and all vectors */
        n_a += strstr(p->name, ".delta_A") != NULL;
        n_b += is_b;
        n_magnitude += strstr(p->name, ".magnitude") != NULL;
        double rate = p->rate > 0 ? p->rate : 1;
        assert_true(rate == (fast ? ratio : 1));
    }
    assert_int_equal(n_a, a->n);
    assert_int_equal(n_b, m->form == DELTA_FIXED_B ? 0 : a->n);
    assert_int_equal(n_magnitude, a->deltas[0].dora ? a->n : 0);
    assert_int_equal(t->elements, adapter_elements(a));
    adapter_detach(&rt);
    model_free(&model);
    backend_free(&b);
}

static void check_combination(struct checkpoint *base, const struct method *m, int flags,
                              const struct adapter *plain, const float *without) {
    struct adapter *a;
    const char *reason, *key = refused(m, flags, &reason);
    float with[IDS * VOCAB];
    if (key) {
        check_refusal(base, m, flags, key, reason);
        return;
    }
    assert_ok(make(base, m, flags, &a));
    assert_int_equal(a->n, plain->n);
    for (size_t i = 0; i < a->n; i++) {
        check_scale(m, flags, &a->deltas[i]);
        check_start(m, &a->deltas[i], &plain->deltas[i]);
    }
    logits_of(base, a, DT_F32, some_ids, with);
    if (memcmp(with, without, sizeof with) != 0)
        fail_msg("%s with flags %d changes the function at step 0", m->name, flags);
    check_rates(base, a, flags);
    adapter_free(&a);
}

static void every_pair(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    float without[IDS * VOCAB];
    size_t methods = 0;
    logits_of(base, NULL, DT_F32, some_ids, without);
    for (const struct method *const *t = method_table(); *t; t++) {
        struct adapter *plain;
        if (!(*t)->adapter) continue;
        methods++;
        assert_ok(make(base, *t, 0, &plain));
        for (int flags = 0; flags < COMBINATIONS; flags++)
            check_combination(base, *t, flags, plain, without);
        adapter_free(&plain);
    }
    assert_true(methods >= 10);
    checkpoint_free(&base);
}

/* Which pairs mean something, by name: a new refusal must be meant. */
static void what_is_refused(void **state) {
    (void)state;
    char have[512] = "";
    for (const struct method *const *t = method_table(); *t; t++) {
        const struct method *m = *t;
        char one[128];
        if (!m->no_dora && !m->no_rslora && !m->no_ratio) continue;
        snprintf(one, sizeof one, "%s:%s%s%s ", m->name, m->no_dora ? " dora" : "",
                 m->no_rslora ? " rslora" : "", m->no_ratio ? " ratio" : "");
        strcat(have, one);
    }
    assert_string_equal(have, "mica: dora ratio adalora: dora rslora ratio ");
}

/* Defaults: alpha and learning rate of every method, and of a ratio of 1, which asks for nothing. */
static void defaults(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double alpha, rate, ratio, scale;
    } want[] = {{"milora", 32, 3e-4, 1, 1},      {"lora", 64, 3e-4, 1, 2},
                {"rslora", 16, 3e-4, 1, 2.8284}, {"lora_plus", 64, 1.5e-4, 16, 2},
                {"pissa", 32, 3e-4, 1, 1},       {"mid", 32, 3e-4, 1, 1},
                {"random", 32, 3e-4, 1, 1},      {"olora", 32, 3e-4, 1, 1},
                {"mica", 32, 6e-4, 1, 1}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct adapter_options o = {.method = want[i].name, .r = 32}, got;
        const struct method *m;
        assert_ok(adapter_resolve(&o, &got, &m, &err));
        assert_true(got.alpha == want[i].alpha && m->learning_rate == want[i].rate);
        assert_true(got.lr_ratio == want[i].ratio);
        double s = got.rslora ? got.alpha / sqrt(32) : got.alpha / 32;
        assert_true(fabs(s - want[i].scale) < 1e-4);
    }
    struct adapter_options one = {.method = "mica", .r = 4, .lr_ratio = 1}, got;
    const struct method *m;
    assert_ok(adapter_resolve(&one, &got, &m, &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
