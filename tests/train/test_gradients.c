/* SPDX-License-Identifier: Apache-2.0 */
/* test_gradients.c - the gradient of whole weights that LoRA-GA starts from: against finite differences in f64, against full
 * fine-tuning bit for bit, by groups of modules, and what training and checkpoints make of it.
 *
 * Tolerance of the differences.  Along a direction D of norm 1, (L(W + h D) - L(W - h D)) / 2h differs from <G, D> by
 * h^2 L''' / 6 + eps L / h; with h = 1e-4, L = 6 and third derivatives of order 10 that is below 1e-7.  G is handed out in
 * f32: 6e-8 |G|, |G| about 1.  1e-6 is allowed. */
#include "fixture.h"

#include <math.h>

#include "core/mem.h"
#include "core/rng.h"
#include "train/gradients.h"
#include "train/plan.h"

static struct mil_error err;

static const char *const lora_ga[] = {"method=lora_ga", "lora_ga_batches=3", "shuffle=true", NULL};

/* A session of the tiny model with its weights bound in the compute type. */
struct bound {
    struct config c;
    struct session s;
    struct backend *b;
    struct model *m;
    struct adapter_options o;
};

static void bind(struct bound *t, enum dtype compute, const char *const *more) {
    struct memory_plan plan;
    memset(t, 0, sizeof *t);
    tiny_config(&t->c, test_tmp_dir(), more);
    assert_ok(session_open(&t->s, &t->c, SESSION_ALL, &err));
    assert_ok(backend_open("cpu", compute, &t->b, &err));
    assert_ok(plan_choose(&t->s, t->b, &plan, &err));
    memory_plan_release(&plan);
    assert_ok(model_new(t->s.base, t->b, t->s.longest, &t->m, &err));
    config_adapter_options(&t->c, &t->o);
}

static void unbind(struct bound *t) {
    model_free(&t->m);
    backend_free(&t->b);
    session_release(&t->s);
    config_release(&t->c);
}

/* Every linear module of the model, and an array for the gradient of each. */
struct weights {
    struct delta *deltas;
    float **g;
    size_t n;
};

static struct weights all_weights(const struct model_config *c) {
    struct weights w = {.n = (size_t)c->layers * MODULES};
    w.deltas = calloc(w.n, sizeof *w.deltas);
    w.g = calloc(w.n, sizeof *w.g);
    for (size_t i = 0; i < w.n; i++) {
        enum module m = (enum module)(i % MODULES);
        w.deltas[i] = (struct delta){.layer = (int64_t)(i / MODULES),
                                     .module = m,
                                     .m = module_rows(c, m),
                                     .n = module_cols(c, m)};
        w.g[i] = calloc((size_t)(w.deltas[i].m * w.deltas[i].n), sizeof(float));
    }
    return w;
}

static void free_weights(struct weights *w) {
    for (size_t i = 0; i < w->n; i++) free(w->g[i]);
    free(w->g);
    free(w->deltas);
}

static struct weights measure(struct bound *t, int64_t batches) {
    struct weights w = all_weights(&t->s.base->config);
    struct gradients g;
    assert_ok(gradients_open(&g, &t->s, t->m, batches, &err));
    assert_ok(gradients_add(&g, w.deltas, w.n, w.g, &err));
    gradients_release(&g);
    for (size_t i = 0; i < w.n; i++) /* nothing is left behind */
        assert_false(tensor_present(t->m->layers[w.deltas[i].layer].linear[w.deltas[i].module].dw));
    return w;
}

/* ---- the samples of the first steps, by other code ---- */

/* Forward (and backward) of all samples of steps 1 to `steps`, each in a micro-batch of its own order; the mean loss. */
static double run_samples(struct bound *t, int64_t steps, bool backward) {
    struct loader l;
    struct micro_batch micro;
    struct step *step;
    struct step_options o = {t->s.max_tokens, t->s.max_tokens, t->s.head_chunk, false};
    double sum = 0, loss;
    int64_t n, rows = 0;
    assert_ok(loader_init(&l, &t->s.data, t->s.per_step, t->c.shuffle, (uint64_t)t->c.seed, &err));
    assert_ok(micro_batch_init(&micro, o.max_tokens, o.max_tokens, &err));
    assert_ok(step_new(t->m, &o, &step, &err));
    for (int64_t at = 1; at <= steps; at++) {
        const int64_t *samples = loader_step(&l, at, &n);
        for (int64_t i = 0; i < n; i++) rows += sample_rows(&t->s.data, samples[i]);
    }
    for (int64_t at = 1; at <= steps; at++) {
        const int64_t *samples = loader_step(&l, at, &n);
        packing_fill(&l.packing, &t->s.data, samples, n, t->s.tokens_per_micro_batch);
        for (int64_t i = 0; i < l.packing.n; i++) {
            const int64_t begin = l.packing.begin[i], end = l.packing.begin[i + 1];
            struct batch b;
            micro_batch_fill(&micro, &t->s.data, l.packing.sample + begin, end - begin, &b);
            b.loss_scale = 1.0 / (double)rows;
            assert_ok(backward ? step_run(step, &b, &loss, &err)
                               : step_loss(step, &b, &loss, NULL, &err));
            sum += loss;
        }
    }
    step_free(&step);
    micro_batch_release(&micro);
    loader_release(&l);
    return sum / (double)rows;
}

/* ---- finite differences ---- */

static void shift(struct tensor w, uint32_t stream, double by) {
    for (int64_t i = 0; i < w.rows * w.cols; i++)
        ((double *)w.data)[i] += by * rng_normal(7, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
}

static void finite_differences(void **state) {
    (void)state;
    struct bound t;
    bind(&t, DT_F64, lora_ga);
    struct weights w = measure(&t, 3);
    for (size_t i = 0; i < w.n; i++) {
        const struct delta *d = &w.deltas[i];
        struct tensor value = t.m->layers[d->layer].linear[d->module].w;
        const double h = 1e-4, scale = h / sqrt((double)(d->m * d->n)); /* |D| about 1 */
        double slope = 0;
        assert_int_equal(value.dtype, DT_F64);
        for (int64_t k = 0; k < d->m * d->n; k++)
            slope += scale / h * (double)w.g[i][k] *
                     rng_normal(7, rng_stream(RNG_TEST, (uint32_t)i), 0, (uint64_t)k);
        shift(value, (uint32_t)i, scale);
        double above = run_samples(&t, 3, false);
        shift(value, (uint32_t)i, -2 * scale);
        double below = run_samples(&t, 3, false);
        shift(value, (uint32_t)i, scale);
        double measured = (above - below) / (2 * h);
        if (fabs(measured - slope) > 1e-6 || fabs(slope) < 1e-5)
            fail_msg("module %zu: slope %.9g, by differences %.9g", i, slope, measured);
    }
    free_weights(&w);
    unbind(&t);
}

/* ---- full fine-tuning ---- */

static void equals_full(enum dtype compute) {
    struct bound t;
    struct full *full;
    char name[160];
    size_t found = 0;
    bind(&t, compute, lora_ga);
    struct weights w = measure(&t, 3);
    assert_ok(full_new(t.m, &full, &err));
    struct trainable *all = full_trainable(full);
    for (size_t p = 0; p < all->n; p++) be_zero(backend_stream(t.b), all->params[p].grad);
    run_samples(&t, 3, true);
    for (size_t i = 0; i < w.n; i++) {
        const struct delta *d = &w.deltas[i];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)d->layer,
                 module_path(d->module));
        for (size_t p = 0; p < all->n; p++) {
            if (strcmp(all->params[p].name, name) != 0) continue;
            assert_memory_equal(all->params[p].grad.data, w.g[i],
                                (size_t)(d->m * d->n) * sizeof(float));
            found++;
        }
    }
    assert_int_equal(found, w.n);
    full_free(&full);
    free_weights(&w);
    unbind(&t);
}

static void equals_full_fine_tuning(void **state) {
    (void)state;
    equals_full(DT_F32);
    equals_full(DT_BF16);
}

/* ---- groups of modules ---- */

struct counted {
    struct gradients g;
    size_t passes, rows;
};
static enum mil_status count_passes(void *ctx, const struct delta *deltas, size_t n,
                                    float *const *g, struct mil_error *e) {
    struct counted *c = ctx;
    c->passes++;
    return gradients_add(&c->g, deltas, n, g, e);
}
static void count_rows(void *ctx, const struct adapter_init_event *e) {
    struct counted *c = ctx;
    assert_int_equal(e->index, c->rows++);
    assert_int_equal(e->total, 10);
}

static struct adapter *init_within(struct bound *t, size_t budget, size_t *passes) {
    struct counted c = {.passes = 0};
    struct adapter *a;
    const struct adapter_init_hooks hooks = {
        .progress = count_rows, .gradients = count_passes, .gradient_bytes = budget, .ctx = &c};
    assert_ok(gradients_open(&c.g, &t->s, t->m, t->o.lora_ga.batches, &err));
    assert_ok(adapter_init_with(t->s.base, &t->o, &hooks, &a, &err));
    gradients_release(&c.g);
    assert_int_equal(c.rows, a->n);
    *passes = c.passes;
    return a;
}

static void groups_change_nothing(void **state) {
    (void)state;
    struct bound t;
    size_t passes, bytes, one, large = 0;
    bind(&t, DT_BF16, lora_ga);
    struct adapter *all = init_within(&t, 0, &passes);
    assert_int_equal(passes, 1);
    for (size_t i = 0; i < all->n; i++) {
        one = (size_t)(all->deltas[i].m * all->deltas[i].n) * sizeof(float);
        if (one > large) large = one;
    }
    const size_t budgets[] = {1, 3 * large};
    for (size_t k = 0; k < 2; k++) {
        struct adapter *cut = init_within(&t, budgets[k], &passes);
        assert_true(k == 0 ? passes == all->n : passes > 1 && passes <= (all->n + 2) / 3);
        assert_ok(adapter_gradient_bytes(&t.s.base->config, &t.o, budgets[k], &bytes, &err));
        assert_true(k == 0 ? bytes == large : bytes <= 3 * large && bytes > large);
        for (size_t i = 0; i < all->n; i++) {
            const struct delta *x = &all->deltas[i], *y = &cut->deltas[i];
            assert_memory_equal(x->a0, y->a0, (size_t)(x->r * x->n) * sizeof *x->a0);
            assert_memory_equal(x->b0, y->b0, (size_t)(x->r * x->m) * sizeof *x->b0);
        }
        adapter_free(&cut);
    }
    adapter_free(&all);
    unbind(&t);
}

/* ---- step 0, refusals ---- */

static void step_0_is_the_base(void **state) {
    (void)state;
    struct bound t;
    size_t passes;
    struct adapter_runtime *rt;
    for (int k = 0; k < 2; k++) {
        bind(&t, k ? DT_BF16 : DT_F32, lora_ga);
        double base = run_samples(&t, 2, false);
        struct adapter *a = init_within(&t, 0, &passes);
        assert_ok(adapter_attach(a, t.m, true, &rt, &err));
        assert_true(run_samples(&t, 2, false) == base);
        adapter_detach(&rt);
        adapter_free(&a);
        unbind(&t);
    }
}

static void refusals(void **state) {
    (void)state;
    struct bound t;
    struct adapter *a = NULL;
    struct gradients g;
    struct weights w;
    bind(&t, DT_F64, lora_ga);
    assert_fails(adapter_init(t.s.base, &t.o, NULL, NULL, &a, &err), MIL_USAGE, "--dataset");
    w = all_weights(&t.s.base->config);
    assert_ok(gradients_open(&g, &t.s, t.m, 1000, &err));
    assert_int_equal(g.samples, t.s.data.n); /* an epoch at most: nothing counts twice */
    train_request_stop();
    assert_fails(gradients_add(&g, w.deltas, w.n, w.g, &err), MIL_INTERRUPTED, "stopped");
    train_clear_stop();
    ((double *)t.m->final_norm.data)[0] = NAN;
    assert_fails(gradients_add(&g, w.deltas, w.n, w.g, &err), MIL_NUMERIC, "not finite");
    gradients_release(&g);
    free_weights(&w);
    t.o.r = 9; /* the narrowest module has 16 rows */
    assert_fails(adapter_init(t.s.base, &t.o, NULL, NULL, &a, &err), MIL_USAGE, "r is at most 8");
    unbind(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(equals_full_fine_tuning),
        cmocka_unit_test(groups_change_nothing),
        cmocka_unit_test(step_0_is_the_base),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
