/* SPDX-License-Identifier: Apache-2.0 */
/* test_gradient.c - the backward pass against central finite differences of the loss, in f64, for
 * every parameter of the model and of an adapter behind the hook.
 *
 * For each tensor: the derivative along a random direction of signs (it holds every entry), and
 * single entries.  With h = 1e-5 the truncation error is h^2 |f'''| / 6 and the rounding error
 * about eps |f| n / h = 1e-16 * 4 * 20 / 1e-5 = 1e-9 (n: roundings that the loss has met).  Weights
 * of size 0.3 on a dozen inputs give derivatives of order 1 up to the third: both errors stay below
 * 1e-8 for an entry and, sqrt(entries) <= 25 larger, below 2.5e-7 for a direction. */
#include "model/adapter.h"
#include "model/support.h"

static const double h = 1e-5, entry_bound = 1e-8, direction_bound = 2.5e-7;

struct probe {
    struct opened *o;
    struct step *step;
    const struct batch *batch;
};

static double loss_at(const struct probe *p) {
    struct mil_error err = {0};
    double sum;
    struct trainable *t = full_trainable(p->o->full);
    t->refresh(t->owner, backend_stream(p->o->b));
    assert_ok(step_loss(p->step, p->batch, &sum, NULL, &err));
    return sum * p->batch->loss_scale;
}

static double sign_of(uint32_t stream, int64_t i) {
    return rng_words(TEST_SEED, rng_stream(RNG_TEST, stream), 5, (uint64_t)i).w[0] & 1 ? 1 : -1;
}

/* value += step * (signs, or the one entry `only`) */
static void displace(struct tensor v, uint32_t stream, int64_t only, double step) {
    double *x = v.data;
    if (only >= 0)
        x[only] += step;
    else
        for (int64_t i = 0; i < v.rows * v.cols; i++) x[i] += step * sign_of(stream, i);
}

static double difference(const struct probe *p, struct tensor v, uint32_t stream, int64_t only) {
    double *saved = bytes_of(v);
    displace(v, stream, only, h);
    double up = loss_at(p);
    memcpy(v.data, saved, (size_t)(v.rows * v.cols) * sizeof *saved);
    displace(v, stream, only, -h);
    double down = loss_at(p);
    memcpy(v.data, saved, (size_t)(v.rows * v.cols) * sizeof *saved);
    mem_free(saved);
    return (up - down) / (2 * h);
}

static void check_tensor(const struct probe *p, const char *name, struct tensor value,
                         struct tensor grad, uint32_t stream) {
    const double *g = grad.data;
    int64_t n = value.rows * value.cols;
    double along = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        along += sign_of(stream, i) * g[i];
        largest = fmax(largest, fabs(g[i]));
    }
    if (!(largest > 1e-6)) fail_msg("%s: no gradient to speak of", name);
    double want = difference(p, value, stream, -1);
    if (!(fabs(along - want) <= direction_bound))
        fail_msg("%s: derivative along a direction %.10g, by differences %.10g", name, along, want);
    for (int k = 0; k < 24; k++) {
        int64_t i =
            (int64_t)(rng_words(TEST_SEED, rng_stream(RNG_TEST, stream), 6, (uint64_t)k).w[0] %
                      (uint64_t)n);
        want = difference(p, value, stream, i);
        if (!(fabs(g[i] - want) <= entry_bound))
            fail_msg("%s[%lld]: %.10g, by differences %.10g", name, (long long)i, g[i], want);
    }
}

static void check_full(const struct model_config *c, bool recompute) {
    struct mil_error err = {0};
    struct test_batch batch;
    struct opened o = open_random(c, DT_F64);
    struct trainable *t = full_trainable(o.full);
    double sum;
    batch_random(&batch, c->vocab, 3);
    struct probe p = {&o, open_step(o.m, 4, recompute), &batch.b};
    zero_gradients(&o);
    assert_ok(step_run(p.step, &batch.b, &sum, &err));
    for (size_t i = 0; i < t->n; i++)
        check_tensor(&p, t->params[i].name, t->params[i].value, t->params[i].grad, (uint32_t)i);
    step_free(&p.step);
    opened_close(&o);
}

static void test_every_parameter_untied(void **state) {
    (void)state;
    struct model_config c = wide_config();
    check_full(&c, false);
}

static void test_every_parameter_tied(void **state) {
    (void)state;
    struct model_config c = tied_config();
    check_full(&c, true);
}

/* Adapters on all modules of both layers, or on some of them: the frozen model's backward pass
 * leaves out what nobody needs, and what it leaves must still be right. */
static void check_adapters(const struct model_config *c, unsigned layer0, unsigned layer1) {
    struct mil_error err = {0};
    struct test_batch batch;
    struct opened o = open_random(c, DT_F64);
    struct test_adapter adapters[2][MODULES];
    double sum;
    batch_random(&batch, c->vocab, 3);
    freeze_weights(o.m);
    adapters_attach(o.m, adapters, layer0, layer1, 0);
    struct probe p = {&o, open_step(o.m, 4, false), &batch.b};
    assert_ok(step_run(p.step, &batch.b, &sum, &err));
    for (int l = 0; l < 2; l++)
        for (int m = 0; m < MODULES; m++) {
            struct test_adapter *a = &adapters[l][m];
            char name[64];
            if (!o.m->layers[l].linear[m].adapter) continue;
            snprintf(name, sizeof name, "layer %d %s", l, module_suffix((enum module)m));
            check_tensor(&p, name, a->a, a->da, 100 + (uint32_t)(l * MODULES + m));
            check_tensor(&p, name, a->b, a->db, 200 + (uint32_t)(l * MODULES + m));
        }
    step_free(&p.step);
    adapters_free(o.m, adapters);
    opened_close(&o);
}

static void test_adapters(void **state) {
    (void)state;
    struct model_config wide = wide_config(), tied = tied_config();
    const unsigned all = (1u << MODULES) - 1;
    check_adapters(&wide, all, all);
    check_adapters(&tied, 1u << MODULE_DOWN, 1u << MODULE_Q | 1u << MODULE_V);
    check_adapters(&wide, 1u << MODULE_V, 1u << MODULE_UP);
    check_adapters(&wide, 0, 1u << MODULE_GATE);
    check_adapters(&tied, 0, 1u << MODULE_O);
}

int main(void) {
    threads_set(1); /* thousands of tiny passes: waiting for each other would be most of the time */
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_parameter_untied),
                                       cmocka_unit_test(test_every_parameter_tied),
                                       cmocka_unit_test(test_adapters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
