/* SPDX-License-Identifier: Apache-2.0 */
/* test_delta.c - the delta form on one linear module: against its definition s (B A x' - B0 A0 x)
 * in f64, its gradients by finite differences in f64, exactly zero at step 0 in every precision.
 *
 * Tolerances.  The contribution is linear in x, in dA and in dB, so a central difference has no
 * truncation error: what remains is rounding, about eps |f| / h = 1e-16 * 1e2 / 1e-3 = 1e-11; the
 * tests allow 1e-9 on gradients of order 1. */
#include "apply.h"
#include "fixture.h"

#include "adapt/delta.h"

enum { TOKENS = 5 };

/* A model of nothing but its configuration, on a backend, with an adapter attached. */
struct rig {
    struct checkpoint *base;
    struct backend *backend;
    struct model model;
    struct adapter *adapter;
    struct adapter_runtime *rt;
    struct arena step, call;
    struct adapter_saved saved;
    struct adapter_context ctx;
    const struct linear_adapter *linear;
    const struct delta *d;
    uint64_t row_key[TOKENS];
};

static void rig_init(struct rig *g, const char *method, enum dtype compute, double dropout,
                     double size) {
    memset(g, 0, sizeof *g);
    struct adapter_options o = options_of(method, 4);
    o.dropout = dropout;
    o.alpha = 6; /* s = 1.5 */
    g->base = open_base();
    assert_ok(backend_open("cpu", compute, &g->backend, &err));
    g->model = (struct model){.config = g->base->config, .backend = g->backend};
    g->model.layers = mem_calloc(MEM_OTHER, 2, sizeof *g->model.layers);
    g->adapter = make_adapter(g->base, &o, size);
    assert_ok(adapter_attach(g->adapter, &g->model, true, &g->rt, &err));
    g->linear = g->model.layers[1].linear[MODULE_DOWN].adapter; /* 32 x 48 */
    assert_non_null(g->linear);
    assert_null(g->model.layers[1].linear[MODULE_O].adapter);
    g->d = &g->adapter->deltas[9];
    assert_true(g->d->module == MODULE_DOWN && g->d->layer == 1);
    assert_ok(arena_init(&g->step, MEM_STEP, 1 << 16, &err));
    assert_ok(arena_init(&g->call, MEM_SCRATCH, 1 << 18, &err));
    g->linear->ops->layout(g->linear, &g->step, &g->call, TOKENS + 3, &g->saved);
    arena_reset(&g->call);
    for (int i = 0; i < TOKENS; i++) g->row_key[i] = 1000 + 17 * (uint64_t)i;
    g->ctx = (struct adapter_context){.stream = backend_stream(g->backend),
                                      .call = &g->call,
                                      .training = true,
                                      .seed = 9,
                                      .step = 3,
                                      .row_key = g->row_key};
}

static void rig_release(struct rig *g) {
    adapter_detach(&g->rt);
    assert_null(g->model.layers[1].linear[MODULE_DOWN].adapter);
    adapter_free(&g->adapter);
    arena_release(&g->step);
    arena_release(&g->call);
    mem_free(g->model.layers);
    backend_free(&g->backend);
    checkpoint_free(&g->base);
}

static double *random_array(int64_t n, uint32_t stream) {
    double *x = mem_alloc(MEM_OTHER, (size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = normal(stream, i);
    return x;
}

/* y (zeroed first) = contribution for x; f64. */
static void forward(struct rig *g, double *x, double *y) {
    int64_t m = g->d->m, n = g->d->n;
    memset(y, 0, (size_t)(TOKENS * m) * sizeof *y);
    apply_forward(g->linear, &g->ctx, tensor_of(x, DT_F64, TOKENS, n),
                  tensor_of(y, DT_F64, TOKENS, m), &g->saved);
    assert_ok(stream_sync(g->ctx.stream, &err));
    assert_int_equal(g->call.used, 0);
}

/* The mask' of the rig: dropout of ones. */
static double *mask_of(struct rig *g, double p) {
    double *ones = random_array(TOKENS * g->d->n, 0), *mask = random_array(TOKENS * g->d->n, 0);
    for (int64_t i = 0; i < TOKENS * g->d->n; i++) ones[i] = 1;
    struct dropout_key key = {g->ctx.seed, rng_stream(RNG_DROPOUT, MODULES + MODULE_DOWN),
                              g->ctx.step, p};
    struct tensor o = tensor_of(ones, DT_F64, TOKENS, g->d->n), t = o;
    t.data = mask;
    struct tensor bits = tensor_of(NULL, DT_U8, TOKENS, dropout_mask_bytes(g->d->n)), none = {0};
    bits.data = mem_alloc(MEM_OTHER, (size_t)(bits.rows * bits.cols), 1);
    be_dropout_mask(g->ctx.stream, bits, g->d->n, &key, g->row_key);
    be_dropout_apply(g->ctx.stream, t, none, o, bits, p);
    mem_free(bits.data);
    mem_free(ones);
    return mask;
}

/* Y = s (B A X' - B0 A0 X), literally. */
static void definition(const struct rig *g, const double *x, const double *mask, double *y) {
    const struct delta *d = g->d;
    double s = d->alpha / (double)d->r;
    memset(y, 0, (size_t)(TOKENS * d->m) * sizeof *y);
    for (int64_t i = 0; i < TOKENS; i++)
        for (int64_t t = 0; t < d->r; t++) {
            double ax = 0, a0x = 0;
            for (int64_t j = 0; j < d->n; j++) {
                double a0 = d->a0 ? d->a0[t * d->n + j] : 0, da = d->da[t * d->n + j],
                       v = x[i * d->n + j];
                ax += (a0 + da) * v * (mask ? mask[i * d->n + j] : 1);
                a0x += a0 * v;
            }
            for (int64_t o = 0; o < d->m; o++) {
                double b0 = d->b0 ? d->b0[o * d->r + t] : 0, db = d->db ? d->db[o * d->r + t] : 0;
                y[i * d->m + o] += s * ((b0 + db) * ax - b0 * a0x);
            }
        }
}

static void check_definition(const char *method, double dropout, bool training) {
    struct rig g;
    rig_init(&g, method, DT_F64, dropout, 0.1);
    g.ctx.training = training;
    double *x = random_array(TOKENS * g.d->n, 70), *y = random_array(TOKENS * g.d->m, 0),
           *want = random_array(TOKENS * g.d->m, 0), *mask = mask_of(&g, dropout), size = 0;
    forward(&g, x, y);
    definition(&g, x, training && dropout > 0 ? mask : NULL, want);
    for (int64_t i = 0; i < TOKENS * g.d->m; i++) {
        assert_true(fabs(y[i] - want[i]) <= 1e-12);
        size = fmax(size, fabs(want[i]));
    }
    assert_true(size > 0.1); /* there was something to compare */
    mem_free(mask);
    mem_free(want);
    mem_free(y);
    mem_free(x);
    rig_release(&g);
}

static void test_definition(void **state) {
    (void)state;
    static const char *const methods[] = {"milora", "pissa",     "mid",   "random", "lora",
                                          "rslora", "lora_plus", "olora", "mica"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        check_definition(methods[i], 0, true);
        check_definition(methods[i], 0.3, true);
        check_definition(methods[i], 0.3, false);
    }
}

/* ---- gradients ---- */

struct problem {
    struct rig *g;
    double *x, *c, *y; /* loss = sum c y */
};

static double loss(struct problem *p) {
    double sum = 0;
    forward(p->g, p->x, p->y);
    for (int64_t i = 0; i < TOKENS * p->g->d->m; i++) sum += p->c[i] * p->y[i];
    return sum;
}

static void check_array(struct problem *p, double *value, const double *grad, int64_t n,
                        const char *what) {
    struct trainable *t = adapter_trainable(p->g->rt);
    double h = 1e-3, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double keep = value[i], f[2];
        for (int k = 0; k < 2; k++) {
            value[i] = keep + (k ? h : -h);
            t->refresh(t->owner, p->g->ctx.stream);
            f[k] = loss(p);
        }
        value[i] = keep;
        double want = (f[1] - f[0]) / (2 * h);
        if (fabs(grad[i] - want) > 1e-9 * (1 + fabs(want)))
            fail_msg("%s[%lld]: %.12g, finite difference %.12g", what, (long long)i, grad[i], want);
        largest = fmax(largest, fabs(want));
    }
    t->refresh(t->owner, p->g->ctx.stream);
    assert_true(largest > 0.01);
}

/* NULL: it does not train. */
static const struct param *find_param(struct rig *g, const char *name) {
    struct trainable *t = adapter_trainable(g->rt);
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->params[i].name, name) == 0) return &t->params[i];
    return NULL;
}

static void check_gradients(const char *method, double dropout) {
    struct rig g;
    rig_init(&g, method, DT_F64, dropout, 0.1);
    int64_t m = g.d->m, n = g.d->n;
    struct problem p = {&g, random_array(TOKENS * n, 71), random_array(TOKENS * m, 72),
                        random_array(TOKENS * m, 0)};
    const struct param *a = find_param(&g, "model.layers.1.mlp.down_proj.delta_A"),
                       *b = find_param(&g, "model.layers.1.mlp.down_proj.delta_B");
    double *dx = random_array(TOKENS * n, 0), *start = random_array(TOKENS * n, 0);
    forward(&g, p.x, p.y);
    for (int pass = 0; pass < 2; pass++) /* gradients are summed into */
        apply_backward(g.linear, &g.ctx, tensor_of(p.x, DT_F64, TOKENS, n),
                       tensor_of(p.c, DT_F64, TOKENS, m), tensor_of(dx, DT_F64, TOKENS, n),
                       &g.saved);
    assert_ok(stream_sync(g.ctx.stream, &err));
    assert_int_equal(b == NULL, g.d->form == DELTA_FIXED_B);
    double *ga = a->grad.data, *gb = b ? b->grad.data : NULL;
    for (int64_t i = 0; i < TOKENS * n; i++) dx[i] = (dx[i] - start[i]) / 2;
    for (int64_t i = 0; i < a->grad.rows * a->grad.cols; i++) ga[i] /= 2;
    for (int64_t i = 0; b && i < b->grad.rows * b->grad.cols; i++) gb[i] /= 2;
    check_array(&p, p.x, dx, TOKENS * n, "dx");
    check_array(&p, a->value.data, ga, a->grad.rows * a->grad.cols, "grad dA");
    if (b) check_array(&p, b->value.data, gb, b->grad.rows * b->grad.cols, "grad dB");
    mem_free(start);
    mem_free(dx);
    mem_free(p.x);
    mem_free(p.c);
    mem_free(p.y);
    rig_release(&g);
}

static void test_gradients(void **state) {
    (void)state;
    check_gradients("milora", 0);
    check_gradients("milora", 0.4);
    check_gradients("pissa", 0.4);
    check_gradients("lora", 0);
    check_gradients("lora", 0.4);
    check_gradients("olora", 0.4);
    check_gradients("mica", 0);
    check_gradients("mica", 0.4);
}

/* ---- step 0 ---- */

/* Not a bit of y changes, whatever the precision. */
static void test_zero_at_step_0(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F32, DT_BF16};
    static const char *const methods[] = {"milora", "pissa", "lora", "rslora", "olora", "mica"};
    for (int c = 0; c < 12; c++) {
        struct rig g;
        rig_init(&g, methods[c / 2], types[c % 2], 0, 0);
        int64_t m = g.d->m, n = g.d->n;
        float x[TOKENS * 48], y[TOKENS * 32], before[TOKENS * 32];
        bf16 xh[TOKENS * 48];
        for (int64_t i = 0; i < TOKENS * n; i++) xh[i] = bf16_from_f32(x[i] = (float)normal(73, i));
        for (int64_t i = 0; i < TOKENS * m; i++) before[i] = y[i] = (float)normal(74, i);
        apply_forward(g.linear, &g.ctx,
                      tensor_of(c % 2 ? (void *)xh : (void *)x, types[c % 2], TOKENS, n),
                      tensor_of(y, DT_F32, TOKENS, m), &g.saved);
        assert_ok(stream_sync(g.ctx.stream, &err));
        assert_memory_equal(y, before, (size_t)(TOKENS * m) * sizeof *y);
        rig_release(&g);
    }
}

/* ---- masters ---- */

static void test_push_and_pull(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F64, DT_F32};
    for (int c = 0; c < 2; c++) {
        struct rig g;
        rig_init(&g, "milora", types[c], 0, 0.1);
        const struct param *b = find_param(&g, "model.layers.1.mlp.down_proj.delta_B");
        float host = g.d->db[3];
        if (c == 0) ((double *)b->value.data)[3] += 0.25;
        if (c == 1) ((float *)b->value.data)[3] += 0.25f;
        assert_ok(adapter_pull(g.rt, &err));
        assert_true(fabsf(g.d->db[3] - host - 0.25f) < 1e-6f);
        g.d->db[3] = 7;
        assert_ok(adapter_push(g.rt, &err));
        assert_true((c == 0 ? ((double *)b->value.data)[3] : ((float *)b->value.data)[3]) == 7);
        assert_int_equal(adapter_trainable(g.rt)->elements, adapter_elements(g.adapter));
        assert_true(b->decay && b->base.rows == 32 && b->base.cols == 4);
        rig_release(&g);
    }
}

/* The plan counts the bytes that attaching takes; a skeleton lays out what an adapter does. */
static void test_plan_and_skeleton(void **state) {
    (void)state;
    struct rig g;
    rig_init(&g, "milora", DT_BF16, 0.1, 0);
    struct plan plan = {0};
    struct arena step[2], call[2];
    struct adapter_runtime *sketch;
    assert_ok(adapter_plan(&g.base->config, &g.adapter->options, true, DT_BF16, &plan, &err));
    size_t elements = (size_t)adapter_elements(g.adapter),
           planned = plan_bytes(&plan, PLAN_SESSION);
    /* masters 2 x 4, gradients 4, copies 2 x 2 (+ A0) bytes an element, and padding */
    assert_true(planned >= elements * 16 && planned <= elements * 20 + 100 * MEM_ALIGN);
    plan_release(&plan);
    struct layer skeleton_layers[2] = {0};
    struct model skeleton = {.config = g.base->config, .backend = g.backend};
    skeleton.layers = skeleton_layers;
    assert_ok(adapter_attach_skeleton(&g.adapter->options, &skeleton, &sketch, &err));
    const struct linear_adapter *both[2] = {g.linear,
                                            skeleton_layers[1].linear[MODULE_DOWN].adapter};
    for (int i = 0; i < 2; i++) {
        struct adapter_saved saved;
        arena_init_sizing(&step[i], NULL, PLAN_STEP);
        arena_init_sizing(&call[i], NULL, PLAN_CALL);
        both[i]->ops->layout(both[i], &step[i], &call[i], 64, &saved);
    }
    assert_int_equal(step[0].used, step[1].used);
    assert_int_equal(call[0].used, call[1].used);
    adapter_detach(&sketch);
    assert_null(skeleton_layers[1].linear[MODULE_DOWN].adapter);
    rig_release(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_zero_at_step_0),    cmocka_unit_test(test_push_and_pull),
        cmocka_unit_test(test_plan_and_skeleton),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
