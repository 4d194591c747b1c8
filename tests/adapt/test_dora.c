/* SPDX-License-Identifier: Apache-2.0 */
/* test_dora.c - a magnitude for each row (DoRA) on whole small models, one without and one with biases, adapters on every
 * module: the norm in closed form against rows summed up directly, gradients of factors and magnitudes by finite
 * differences with the norm held, as the paper's backward pass has it; not a bit of the logits at step 0; decoding as
 * the prompt's pass; memory as planned.
 *
 * Differences.  In f64 with h = 1e-5, as tests/model/test_gradient.c derives: an entry within 1e-8; weights are of size
 * 0.2 to 0.6 here and magnitudes move whole rows, third derivatives stay below 100: h^2 100 / 6 = 2e-9, and rounding
 * 1e-16 * 4 * 40 / 1e-5 = 2e-9. */
#include "model/support.h"

#include "fixture.h"

#include "adapt/delta.h"
#include "core/threads.h"

static const double h = 1e-5, entry_bound = 1e-8;
static const char *const plain_model = TEST_DATA "/base", *const biased_model = TEST_ROOT
                                                          "/tests/train/data/tiny-bias";
static const char *const all_linear[] = {"all-linear"};

struct rig {
    struct opened o;
    struct adapter *adapter;
    struct adapter_runtime *rt;
    struct step *step;
    struct test_batch batch;
};

static struct adapter_options dora_options(const char *method, double dropout) {
    struct adapter_options o = options_of(method, 3);
    o.targets = all_linear;
    o.n_targets = 1;
    o.alpha = 4;
    o.dropout = dropout;
    o.dora = true;
    return o;
}

/* size: of a change of factors and, relative, magnitudes. */
static void rig_init(struct rig *g, const char *model, const struct adapter_options *o,
                     enum dtype compute, bool recompute, double size) {
    memset(g, 0, sizeof *g);
    g->o = open_dir(model, compute, false);
    g->adapter = make_adapter(g->o.c, o, size);
    for (size_t i = 0; i < g->adapter->n; i++) {
        struct delta *d = &g->adapter->deltas[i];
        for (int64_t j = 0; size > 0 && d->dora && j < d->m; j++)
            d->magnitude[j] *= (float)(1 + 0.2 * normal(300 + (uint32_t)i, j));
    }
    assert_ok(adapter_attach(g->adapter, g->o.m, true, &g->rt, &err));
    g->step = open_step(g->o.m, 4, recompute);
    batch_random(&g->batch, g->o.m->config.vocab, 3);
}

static void rig_release(struct rig *g) {
    step_free(&g->step);
    adapter_detach(&g->rt);
    adapter_free(&g->adapter);
    opened_close(&g->o);
}

static const struct delta_runtime *runtime_of(const struct rig *g, const struct delta *d) {
    return (const struct delta_runtime *)g->o.m->layers[d->layer].linear[d->module].adapter;
}

/* ---- the norm ---- */

/* || W_i + s Delta_i || of the stored weight, the change from the factors as they are on the host. */
static double direct_norm(const float *w, const double *change, int64_t i, int64_t n) {
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        double x = (double)w[i * n + j] + change[i * n + j];
        sum += x * x;
    }
    return sqrt(sum);
}

/* What the operands' rounding to bf16 (u = 2^-8, twice: two factors) and W's do to the norm is at most u times the
 * absolute sum c of the change's terms in a row, |b| |A|, in f32 and f64 the roundings of a sum of n + 2 k terms of at
 * most (|W| + c)^2. */
static void check_norms(struct rig *g, double u_operand, double u_sum) {
    double largest = 0;
    for (size_t k = 0; k < g->adapter->n; k++) {
        const struct delta *d = &g->adapter->deltas[k];
        const struct delta_runtime *r = runtime_of(g, d);
        double *change = exact_change(d), s = d->alpha / (double)d->r;
        float *w = mem_alloc(MEM_OTHER, (size_t)(d->m * d->n), sizeof *w);
        weight_to_f32(checkpoint_module(g->o.c, d->layer, d->module), w);
        for (int64_t i = 0; i < d->m; i++) {
            double norm = direct_norm(w, change, i, d->n), c = 0, f = element_of(r->factor, i),
                   want = (double)d->magnitude[i] / norm;
            for (int64_t t = 0; t < d->r; t++) {
                double a = 0, da = 0, b0 = d->b0 ? fabs((double)d->b0[i * d->r + t]) : 0;
                for (int64_t j = 0; j < d->n; j++) {
                    double x = (double)d->a0[t * d->n + j] + (double)d->da[t * d->n + j];
                    a += x * x;
                    da += (double)d->da[t * d->n + j] * (double)d->da[t * d->n + j];
                }
                c += s * (fabs((double)d->db[i * d->r + t]) * sqrt(a) + b0 * sqrt(da));
            }
            double terms = (double)(d->n + 4 * d->r),
                   bound = (2 * u_operand * c + terms * u_sum * (norm + 2 * c)) * (norm + 2 * c) /
                           norm / norm;
            if (!(fabs(f / want - 1) <= bound + 2 * u_sum))
                fail_msg(
                    "%s layer %d row %d: factor %.10g, directly %.10g: off by %.2g, bound %.2g",
                    module_suffix(d->module), (int)d->layer, (int)i, f, want, fabs(f / want - 1),
                    bound);
            largest = fmax(largest, fabs(want - 1));
        }
        mem_free(w);
        mem_free(change);
    }
    assert_true(largest > 0.2); /* there was something to see */
}

static void test_norms(void **state) {
    (void)state;
    static const char *const methods[] = {"lora", "milora", "pissa", "olora"};
    for (int i = 0; i < 12; i++) {
        static const enum dtype types[] = {DT_F64, DT_F32, DT_BF16};
        struct adapter_options o = dora_options(methods[i / 3], 0);
        struct rig g;
        rig_init(&g, plain_model, &o, types[i % 3], false, 0.1);
        check_norms(&g, i % 3 == 2 ? 0x1p-8 : 0, i % 3 ? 0x1p-24 : 0x1p-53);
        rig_release(&g);
    }
}

/* ---- gradients ---- */

enum part { PART_A, PART_B, PART_MAGNITUDE, PARTS };
static const char *const part_names[PARTS] = {"dA", "dB", "magnitude"};

static struct tensor part_value(const struct delta_runtime *r, enum part p) {
    return p == PART_A ? r->da : p == PART_B ? r->db : r->magnitude;
}
static struct tensor part_grad(const struct delta_runtime *r, enum part p) {
    return p == PART_A ? r->grad_da : p == PART_B ? r->grad_db : r->grad_magnitude;
}

/* The loss with the norm as it was: of the factors' copies only those of A and B are renewed.  hold false: all. */
static double loss_at(struct rig *g, const struct delta_runtime *r, enum part p, bool hold) {
    struct tensor none = {0};
    struct trainable *t = adapter_trainable(g->rt);
    double sum;
    if (hold && p != PART_MAGNITUDE)
        delta_refresh(r, backend_stream(g->o.b), none);
    else
        t->refresh(t->owner, backend_stream(g->o.b));
    assert_ok(step_run(g->step, &g->batch.b, &sum, &err));
    return sum * g->batch.b.loss_scale;
}

static double difference(struct rig *g, const struct delta_runtime *r, enum part p, int64_t i,
                         bool hold) {
    double *x = part_value(r, p).data, keep = x[i];
    x[i] = keep + h;
    double up = loss_at(g, r, p, hold);
    x[i] = keep - h;
    double down = loss_at(g, r, p, hold);
    x[i] = keep;
    loss_at(g, r, p, false); /* renewed */
    return (up - down) / (2 * h);
}

/* Returns how far the held norm's derivative is from the whole one, at most. */
static double check_part(struct rig *g, const struct delta *d, enum part p, const double *grad) {
    const struct delta_runtime *r = runtime_of(g, d);
    struct tensor v = part_value(r, p);
    int64_t n = v.rows * v.cols;
    double through = 0, largest = 0;
    for (int k = 0; k < 3; k++) {
        int64_t i =
            (int64_t)(rng_words(9, rng_stream(RNG_TEST, 77), (uint32_t)p, (uint64_t)k).w[0] %
                      (uint64_t)n);
        double want = difference(g, r, p, i, true);
        if (!(fabs(grad[i] - want) <= entry_bound))
            fail_msg("layer %d %s, %s[%d]: %.10g, by differences %.10g", (int)d->layer,
                     module_suffix(d->module), part_names[p], (int)i, grad[i], want);
        largest = fmax(largest, fabs(want));
        if (k == 0 && p != PART_MAGNITUDE) through = fabs(difference(g, r, p, i, false) - grad[i]);
    }
    if (!(largest > 1e-6))
        fail_msg("layer %d %s: no gradient of %s to speak of", (int)d->layer,
                 module_suffix(d->module), part_names[p]);
    return through;
}

/* module: of both layers; NULL: all. */
static void check_gradients(const char *model, const char *method, double dropout, bool recompute,
                            const char *module) {
    struct adapter_options o = dora_options(method, dropout);
    struct rig g;
    if (module) o.targets = &module;
    rig_init(&g, model, &o, DT_F64, recompute, 0.1);
    double through = 0;
    for (size_t i = 0; i < g.adapter->n; i++) {
        const struct delta *d = &g.adapter->deltas[i];
        for (int p = 0; p < PARTS; p++) {
            struct tensor grad = part_grad(runtime_of(&g, d), (enum part)p);
            be_zero(backend_stream(g.o.b), grad);
            loss_at(&g, runtime_of(&g, d), (enum part)p, false);
            double *kept = bytes_of(grad); /* differences add to it */
            through = fmax(through, check_part(&g, d, (enum part)p, kept));
            mem_free(kept);
        }
    }
    assert_int_equal(g.adapter->n, module ? 2 : 2 * MODULES);
    assert_true(through > 1e-4); /* the norm did move */
    rig_release(&g);
}

static void test_gradients(void **state) {
    (void)state;
    check_gradients(plain_model, "lora", 0, false, NULL);
    check_gradients(plain_model, "milora", 0.3, true, NULL);
    check_gradients(biased_model, "dora", 0.3, false, NULL);
    check_gradients(biased_model, "pissa", 0, false, NULL);
    /* one at a time: whose output is read decides where gradients are put */
    static const char *const modules[] = {"q_proj",  "k_proj",    "v_proj",   "o_proj",
                                          "up_proj", "gate_proj", "down_proj"};
    for (size_t i = 0; i < MODULES; i++)
        check_gradients(plain_model, "dora", 0, i % 2 == 0, modules[i]);
}

/* ---- step 0 ---- */

/* Logits of some tokens, all rows (mem_free); token by token or at once. */
static float *logits_of(struct rig *g, bool one_by_one) {
    enum { IDS = 9 };
    int32_t ids[IDS], slot = 0;
    int64_t vocab = g->o.m->config.vocab, n = one_by_one ? 1 : IDS;
    float *logits = mem_alloc(MEM_OTHER, (size_t)(IDS * vocab), sizeof *logits);
    struct infer_options o = {.slots = 1, .length = IDS, .max_tokens = IDS, .max_rows = IDS};
    struct infer *s;
    random_ids(ids, IDS, vocab, 50);
    assert_ok(infer_new(g->o.m, &o, &s, &err));
    for (int64_t past = 0; past < IDS; past += n) {
        struct infer_call call = {.ids = ids + past,
                                  .slot = &slot,
                                  .past = &past,
                                  .n = &n,
                                  .n_seqs = 1,
                                  .all_rows = true,
                                  .logits = logits + past * vocab};
        assert_ok(infer_run(s, &call, &err));
    }
    infer_free(&s);
    return logits;
}

static void assert_same_logits(const struct rig *g, const char *what, const float *a,
                               const float *b) {
    size_t n = 9 * (size_t)g->o.m->config.vocab;
    if (memcmp(a, b, n * sizeof *a) != 0) fail_msg("%s: logits have other bits", what);
}

static void test_step_0(void **state) {
    (void)state;
    static const char *const methods[] = {"dora",  "lora",   "rslora", "lora_plus", "milora",
                                          "pissa", "random", "mid",    "olora"};
    for (int i = 0; i < 36; i++) {
        struct adapter_options o = dora_options(methods[i / 4], 0.2);
        struct rig g;
        rig_init(&g, i / 2 % 2 ? biased_model : plain_model, &o, i % 2 ? DT_BF16 : DT_F32, false,
                 0);
        for (size_t k = 0; k < g.adapter->n; k++) {
            const struct delta *d = &g.adapter->deltas[k];
            for (int64_t j = 0; j < d->m; j++)
                assert_true(element_of(runtime_of(&g, d)->factor, j) == 1);
        }
        float *with = logits_of(&g, false);
        adapter_detach(&g.rt);
        float *without = logits_of(&g, false);
        assert_same_logits(&g, methods[i / 4], with, without);
        mem_free(with);
        mem_free(without);
        rig_release(&g);
    }
}

/* A row's bits do not depend on how many go with it: decoding gives the prompt's logits, factors or not. */
static void test_decoding(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct adapter_options o = dora_options(i / 2 ? "milora" : "dora", 0);
        struct rig g;
        rig_init(&g, biased_model, &o, i % 2 ? DT_BF16 : DT_F32, false, 0.1);
        float *whole = logits_of(&g, false), *steps = logits_of(&g, true);
        assert_same_logits(&g, "token by token", whole, steps);
        adapter_detach(&g.rt);
        float *without = logits_of(&g, false);
        assert_true(memcmp(whole, without, 64 * sizeof *whole) != 0);
        mem_free(whole);
        mem_free(steps);
        mem_free(without);
        rig_release(&g);
    }
}

/* A row of zeros: factor 1, then 0; no NaN. */
static void test_zero_rows(void **state) {
    (void)state;
    struct adapter_options o = dora_options("dora", 0);
    struct rig g;
    rig_init(&g, plain_model, &o, DT_F32, false, 0);
    struct delta_runtime *r = (struct delta_runtime *)runtime_of(&g, &g.adapter->deltas[0]);
    struct trainable *t = adapter_trainable(g.rt);
    double sum;
    ((float *)r->row_squares.data)[2] = 0;
    ((float *)r->magnitude.data)[2] = 0;
    t->refresh(t->owner, backend_stream(g.o.b));
    assert_true(element_of(r->factor, 2) == 1 && element_of(r->inverse, 2) == 0);
    assert_ok(step_run(g.step, &g.batch.b, &sum, &err));
    assert_true(isfinite(sum) && element_of(r->grad_magnitude, 2) == 0);
    rig_release(&g);
}

/* ---- memory ---- */

struct bytes {
    size_t used, planned, params;
};

/* What making and attaching an adapter takes, and what was planned for it. */
static struct bytes bytes_of_adapter(const struct adapter_options *o, enum dtype act) {
    struct checkpoint *base = open_base();
    struct backend *b;
    struct model *m;
    struct adapter_runtime *rt;
    struct plan plan = {0};
    struct bytes out;
    assert_ok(backend_open("cpu", act, &b, &err));
    assert_ok(model_new(base, b, TEST_MAX_TOKENS, &m, &err));
    size_t before = mem_stats(MEM_ADAPTER).now;
    struct adapter *a = make_adapter(base, o, 0);
    assert_ok(adapter_attach(a, m, true, &rt, &err));
    assert_ok(adapter_plan(&base->config, o, true, act, &plan, &err));
    out.used = mem_stats(MEM_ADAPTER).now - before;
    out.planned = plan_bytes(&plan, PLAN_SESSION);
    out.params = adapter_trainable(rt)->n;
    adapter_detach(&rt);
    plan_release(&plan);
    adapter_free(&a);
    model_free(&m);
    backend_free(&b);
    checkpoint_free(&base);
    return out;
}

/* What a magnitude takes beyond the same adapter without it is what the plans differ by, and its row in the table of
 * params; blocks are whole multiples of 64 bytes. */
static void test_plan(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct adapter_options with = dora_options(i / 2 ? "milora" : "lora", 0.1), without = with;
        enum dtype act = i % 2 ? DT_BF16 : DT_F32;
        without.dora = false;
        struct bytes w = bytes_of_adapter(&with, act), o = bytes_of_adapter(&without, act);
        size_t used = w.used - o.used, planned = w.planned - o.planned, modules = 2 * MODULES,
               table = modules * sizeof(struct param);
        assert_int_equal(w.params - o.params, modules);
        assert_true(planned > 0 && used >= planned + table - 64 * (modules + 2) &&
                    used <= planned + table + 64 * (modules + 2));
    }
}

int main(void) {
    threads_set(1); /* thousands of tiny passes */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),     cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_step_0),    cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_zero_rows), cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
