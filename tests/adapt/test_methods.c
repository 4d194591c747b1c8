/* SPDX-License-Identifier: Apache-2.0 */
/* test_methods.c - the table, each initialiser against factors that PyTorch computed
 * (tools/golden/record_adapters.py), and adapters at step 0.
 *
 * Tolerances.  The recorded factors are f64, ours are rounded to f32: 6e-8 relative; a vector of a
 * triplet is determined up to eps sigma_max / gap = 2e-16 * 12 / 1e-2, far below.  1e-6 is allowed
 * on entries of order 1. */
#include "fixture.h"

#include "adapt/internal.h"
#include "core/threads.h"

static const struct method *method_of(const char *name) {
    const struct method *m;
    assert_ok(method_find(name, &m, &err));
    return m;
}

static void test_table(void **state) {
    (void)state;
    size_t n = 0;
    const struct method *m;
    for (const struct method *const *t = method_table(); *t; t++, n++) {
        assert_ptr_equal(method_of((*t)->name), *t);
        assert_true(strlen((*t)->summary) > 10 && strlen((*t)->reference) > 10);
        assert_int_equal((*t)->adapter, (*t)->init != NULL);
    }
    assert_true(n >= 11);
    assert_true(method_of("lora")->alpha_over_r == 2 && method_of("milora")->alpha_over_r == 1);
    assert_fails(method_find("milroa", &m, &err), MIL_USAGE, "did you mean 'milora'");
    assert_fails(method_find("quantum", &m, &err), MIL_USAGE, "choose one of milora, lora, rslora");
}

/* ---- factors ---- */

struct golden {
    struct st_file *file;
    double *w;
    int64_t m, n;
};

static const double *golden_array(const struct golden *g, const char *method, const char *part) {
    char key[32];
    snprintf(key, sizeof key, "%s.%s", method, part);
    const struct st_tensor *t = st_find(g->file, key);
    assert_non_null(t);
    assert_int_equal(t->dtype, DT_F64);
    return t->data;
}

static void golden_open(struct golden *g) {
    assert_ok(st_open(TEST_DATA "/factors.safetensors", &g->file, &err));
    const struct st_tensor *w = st_find(g->file, "w");
    g->m = w->shape[0];
    g->n = w->shape[1];
    g->w = mem_alloc(MEM_OTHER, (size_t)(g->m * g->n), sizeof *g->w);
    for (int64_t i = 0; i < g->m * g->n; i++) g->w[i] = ((const float *)w->data)[i];
}

static void golden_close(struct golden *g) {
    mem_free(g->w);
    st_free(&g->file);
}

static void assert_near(const float *have, const double *want, int64_t n) {
    for (int64_t i = 0; i < n; i++) assert_true(fabs(have[i] - want[i]) <= 1e-6);
}

/* One of the chain's. */
static bool is_method(const char *name) {
    for (const char *const *known = svd_methods(); *known; known++)
        if (strcmp(name, *known) == 0) return true;
    return false;
}

/* r = 6, alpha = 12: s = 2 divides the singular values. */
static void test_factors(void **state) {
    (void)state;
    struct golden g;
    golden_open(&g);
    float a0[6 * 32], b0[48 * 6];
    static const char *const names[] = {"milora", "pissa", "mid", "random"};
    assert_true(golden_array(&g, "lora", "a") &&
                *(const double *)st_find(g.file, "gap")->data > 1e-3);
    for (size_t i = 0; i < 4; i++) {
        struct method_init io = {.w = {g.w, DT_F64, g.m, g.n},
                                 .m = g.m,
                                 .n = g.n,
                                 .r = 6,
                                 .scale = 2,
                                 .seed = 42,
                                 .stream = 7,
                                 .a0 = a0,
                                 .b0 = b0};
        assert_ok(method_of(names[i])->init(&io, &err));
        assert_near(a0, golden_array(&g, names[i], "a"), 6 * 32);
        assert_near(b0, golden_array(&g, names[i], "b"), 48 * 6);
        const double *sigma = golden_array(&g, names[i], "sigma");
        assert_true(fabs(io.sigma_first - sigma[0]) < 1e-12);
        assert_true(fabs(io.sigma_last - sigma[5]) < 1e-12);
        assert_true(io.residual < 1e-12 && is_method(io.served_by) && !io.cached);
    }
    struct method_init io = {
        .m = 48, .n = 32, .r = 6, .scale = 2, .seed = 42, .stream = 7, .a0 = a0};
    assert_ok(method_of("lora")->init(&io, &err));
    assert_near(a0, golden_array(&g, "lora", "a"), 6 * 32);
    golden_close(&g);
}

/* MiCA's B0 is MiLoRA's without its singular values: the recording's columns at norm 1. */
static void test_left_vectors(void **state) {
    (void)state;
    struct golden g;
    golden_open(&g);
    float b0[48 * 6];
    struct method_init io = {
        .w = {g.w, DT_F64, g.m, g.n}, .m = g.m, .n = g.n, .r = 6, .scale = 2, .b0 = b0};
    assert_ok(method_of("mica")->init(&io, &err));
    const double *b = golden_array(&g, "milora", "b"), *sigma = golden_array(&g, "milora", "sigma");
    for (int64_t i = 0; i < 48 * 6; i++)
        assert_true(fabs(b0[i] - b[i] / sqrt(sigma[i % 6] / 2)) <= 1e-6);
    assert_true(io.residual < 1e-12 && is_method(io.served_by));
    golden_close(&g);
}

/* What makes Q_r and R[:r] of W = Q R, whatever the signs: orthonormal columns, zeros below the diagonal, the first r
 * columns of W whole, and Q_r^T W.  Factors of norm up to ||W|| = 50 are rounded to f32: 50 * 6e-8 * sqrt(48). */
static void test_qr_factors(void **state) {
    (void)state;
    struct golden g;
    golden_open(&g);
    enum { R = 6, M = 48, N = 32 };
    float a0[R * N], b0[M * R];
    struct method_init io = {
        .w = {g.w, DT_F64, M, N}, .m = M, .n = N, .r = R, .scale = 2, .a0 = a0, .b0 = b0};
    assert_ok(method_of("olora")->init(&io, &err));
    for (int t = 0; t < R; t++) {
        for (int k = 0; k < R; k++) {
            double dot = 0;
            for (int i = 0; i < M; i++) dot += (double)b0[i * R + t] * b0[i * R + k];
            assert_true(fabs(dot - (t == k)) < 1e-6);
        }
        for (int j = 0; j < N; j++) {
            double dot = 0;
            for (int i = 0; i < M; i++) dot += b0[i * R + t] * g.w[i * N + j];
            assert_true(fabs(dot - a0[t * N + j]) < 2e-5);
            assert_true(j >= t || a0[t * N + j] == 0);
        }
    }
    for (int i = 0; i < M; i++)
        for (int j = 0; j < R; j++) {
            double sum = 0;
            for (int t = 0; t < R; t++) sum += (double)b0[i * R + t] * a0[t * N + j];
            assert_true(fabs(sum - g.w[i * N + j]) < 2e-5);
        }
    golden_close(&g);
}

/* ---- selection ---- */

static bool selected[2 * MODULES];

static enum mil_status select_of(const char *const *names, size_t n, bool regex) {
    struct model_config c = {.layers = 2};
    struct adapter_options o = {.targets = names, .n_targets = n, .targets_regex = regex};
    return adapter_select(&c, &o, selected, &err);
}

/* Selected modules as text: "q0 d1" would be layer 0 q, layer 1 down. */
static void assert_selected(const char *want) {
    char have[128] = "";
    for (int i = 0; i < 2 * MODULES; i++)
        if (selected[i]) {
            char one[16];
            snprintf(one, sizeof one, "%c%d ", module_suffix((enum module)(i % MODULES))[0],
                     i / MODULES);
            strcat(have, one);
        }
    assert_string_equal(have, want);
}

static void test_select(void **state) {
    (void)state;
    static const char *const
        two[] = {"q_proj", "down_proj"},
        *const path[] = {"mlp.up_proj"}, *const full[] = {"model.layers.1.self_attn.o_proj"},
        *const all[] = {"all-linear"}, *const layer[] = {"layers.1.mlp.up_proj"},
        *const regex[] = {".*layers\\.0.*\\.(q|k)_proj"}, *const part[] = {"q_pro"},
        *const cut[] = {"_proj"}, *const wrong[] = {"q_proj", "qproj"}, *const head[] = {"lm_head"},
        *const broken[] = {"(q_proj"}, *const blow[] = {"(([a-z.0-9_]+)+)+[^a-z.0-9_]"};
    assert_ok(select_of(two, 2, false));
    assert_selected("q0 d0 q1 d1 ");
    assert_ok(select_of(path, 1, false));
    assert_selected("u0 u1 ");
    assert_ok(select_of(full, 1, false));
    assert_selected("o1 ");
    assert_ok(select_of(layer, 1, false));
    assert_selected("u1 ");
    assert_ok(select_of(all, 1, false));
    assert_selected("q0 k0 v0 o0 g0 u0 d0 q1 k1 v1 o1 g1 u1 d1 ");
    assert_ok(select_of(regex, 1, true));
    assert_selected("q0 k0 ");
    assert_fails(select_of(part, 1, true), MIL_USAGE, "'q_pro' matches no module"); /* full match */
    assert_fails(select_of(part, 1, false), MIL_USAGE, "did you mean 'q_proj'");
    assert_fails(select_of(cut, 1, false), MIL_USAGE, "matches no module"); /* no dot before it */
    assert_fails(select_of(wrong, 2, false), MIL_USAGE, "'qproj' matches no module; did you mean");
    assert_fails(select_of(head, 1, false), MIL_USAGE, "layers 0 to 1 with q_proj");
    assert_fails(select_of(broken, 1, true), MIL_USAGE, "not a regular expression");
    assert_fails(select_of(blow, 1, true), MIL_USAGE, "simplify the pattern");
    assert_fails(select_of(two, 0, false), MIL_USAGE, "name at least one");
}

/* ---- adapters at step 0 ---- */

static void count_event(void *ctx, const struct adapter_init_event *e) {
    size_t *seen = ctx;
    assert_int_equal(e->index, *seen);
    assert_true(e->total == 10 && e->seconds >= 0 && e->init->a0 == e->delta->a0);
    *seen += 1;
}

static void test_init(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    struct adapter *a, *again;
    size_t seen = 0;
    assert_ok(adapter_init(base, &o, count_event, &seen, &a, &err));
    assert_int_equal(seen, 10);
    assert_int_equal(a->n, 10);
    assert_true(a->options.alpha == 4 && a->layers == 2 && strlen(a->base_fingerprint) == 32);
    /* r (m + n): q 32x32, k and v 16x32, up 48x32, down 32x48, two layers */
    assert_int_equal(adapter_elements(a), 2 * 4 * (64 + 48 + 48 + 80 + 80));
    assert_ok(adapter_init(base, &o, NULL, NULL, &again, &err));
    for (size_t i = 0; i < a->n; i++) {
        struct delta *d = &a->deltas[i], *e = &again->deltas[i];
        assert_memory_equal(d->a0, e->a0, (size_t)(d->r * d->n) * sizeof(float));
        assert_memory_equal(d->b0, e->b0, (size_t)(d->r * d->m) * sizeof(float));
        for (int64_t j = 0; j < d->r * d->n; j++) assert_true(d->da[j] == 0);
        for (int64_t j = 0; j < d->r * d->m; j++) assert_true(d->db[j] == 0);
    }
    adapter_free(&again);
    adapter_free(&a);
    o = options_of("lora", 4);
    a = make_adapter(base, &o, 0);
    assert_true(a->options.alpha == 8 && a->deltas[0].b0 == NULL);
    adapter_free(&a);
    checkpoint_free(&base);
}

/* The same bits for 1 and 2 threads, also for an adapter of a single module. */
static void test_threads(void **state) {
    (void)state;
    static const char *const one[] = {"model.layers.0.mlp.up_proj"};
    struct checkpoint *base = open_base();
    for (int c = 0; c < 2; c++) {
        struct adapter_options o = options_of("milora", 4);
        struct adapter *a[2];
        if (c) o.targets = one;
        if (c) o.n_targets = 1;
        for (int t = 0; t < 2; t++) {
            threads_set(t + 1);
            a[t] = make_adapter(base, &o, 0);
        }
        threads_set(0);
        for (size_t i = 0; i < a[0]->n; i++) {
            struct delta *d = &a[0]->deltas[i], *e = &a[1]->deltas[i];
            assert_memory_equal(d->a0, e->a0, (size_t)(d->r * d->n) * sizeof(float));
            assert_memory_equal(d->b0, e->b0, (size_t)(d->r * d->m) * sizeof(float));
        }
        adapter_free(&a[0]);
        adapter_free(&a[1]);
    }
    checkpoint_free(&base);
}

/* r = min(m, n): the whole weight is the component. */
static void test_full_rank(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    static const char *const k[] = {"k_proj"};
    struct adapter_options o = {
        .method = "milora", .r = 16, .alpha = 24, .targets = k, .n_targets = 1};
    struct adapter *a = make_adapter(base, &o, 0);
    for (size_t i = 0; i < a->n; i++) {
        struct delta *d = &a->deltas[i];
        float row[32];
        for (int64_t r = 0; r < d->m; r++) {
            weight_row_f32(checkpoint_module(base, d->layer, d->module), r, row);
            for (int64_t c = 0; c < d->n; c++) {
                double sum = 0;
                for (int64_t t = 0; t < 16; t++)
                    sum += 1.5 * (double)d->b0[r * 16 + t] * d->a0[t * d->n + c];
                assert_true(fabs(sum - row[c]) < 1e-6);
            }
        }
    }
    adapter_free(&a);
    checkpoint_free(&base);
}

static void test_refusals(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter *a;
    struct adapter_options o = options_of("milora", 17);
    assert_fails(adapter_init(base, &o, NULL, NULL, &a, &err), MIL_USAGE,
                 "model.layers.0.self_attn.k_proj is 16 x 32: r is at most 16");
    o.r = 0;
    assert_fails(adapter_init(base, &o, NULL, NULL, &a, &err), MIL_USAGE, "at least 1");
    o.r = 2;
    o.dropout = 1;
    assert_fails(adapter_init(base, &o, NULL, NULL, &a, &err), MIL_USAGE, "[0, 1)");
    o.dropout = 0;
    o.alpha = NAN;
    assert_fails(adapter_init(base, &o, NULL, NULL, &a, &err), MIL_USAGE, "finite");
    o = options_of("full", 2);
    assert_fails(adapter_init(base, &o, NULL, NULL, &a, &err), MIL_USAGE, "has no adapter");
    o = options_of("milora", 2);
    for (long n = 0; n < 400; n += 3) { /* every clean-up path */
        mem_fail_after(n);
        enum mil_status st = adapter_init(base, &o, NULL, NULL, &a, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_OK || st == MIL_NOMEM);
        adapter_free(&a);
    }
    /* a NaN in a weight: the mapped file is read-only, so hand in a copy */
    struct weight_view *v = &base->layers[1].weight[MODULE_UP];
    float *copy = mem_alloc(MEM_OTHER, (size_t)(v->rows * v->cols), sizeof *copy);
    weight_to_f32(v, copy);
    copy[2 * v->cols + 5] = NAN;
    v->data = copy;
    v->dtype = DT_F32;
    assert_fails(adapter_init(base, &o, NULL, NULL, &a, &err), MIL_INPUT,
                 "model.layers.1.mlp.up_proj: entry (2, 5) is NaN");
    mem_free(copy);
    checkpoint_free(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_left_vectors), cmocka_unit_test(test_qr_factors),
        cmocka_unit_test(test_table),        cmocka_unit_test(test_factors),
        cmocka_unit_test(test_select),       cmocka_unit_test(test_init),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_full_rank),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
