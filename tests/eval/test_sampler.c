/* SPDX-License-Identifier: Apache-2.0 */
/* The sampler against the exact distribution it is to draw from, and its edges. */
#include "check.h"

#include <math.h>

#include "core/rng.h"
#include "eval/sampler.h"

#define V 7
static const float logits[V] = {1.0f, -2.0f, 3.0f, 0.5f, 3.0f, -INFINITY, 2.0f};

/* softmax(logits / t), then the nucleus by a plain sort of (probability descending, id ascending).
 */
static void exact(double t, double top_p, double p[V]) {
    double total = 0, before = 0, kept = 0;
    int order[V];
    for (int i = 0; i < V; i++) total += p[i] = exp(((double)logits[i] - 3) / t);
    for (int i = 0; i < V; i++) {
        p[i] /= total;
        int at = i;
        for (; at > 0 && p[order[at - 1]] < p[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    for (int i = 0; i < V; i++) {
        double mine = p[order[i]];
        if (i > 0 && before >= top_p && top_p < 1) p[order[i]] = 0;
        before += mine;
        kept += p[order[i]];
    }
    for (int i = 0; i < V; i++) p[i] /= kept;
}

/* Draws at n evenly spaced u hit each token floor(n p) or ceil(n p) times, plus one for each of the
 * two ends of its interval: |count - n p| <= 2. That is exact, no statistics. */
static void distribution(void **state) {
    (void)state;
    static const double temperatures[] = {0.3, 1, 2.5}, tops[] = {1, 0.95, 0.9, 0.5, 0.2, 1e-9};
    struct mil_error err;
    int32_t scratch[V];
    const int n = 20000;
    for (size_t a = 0; a < 3; a++) {
        for (size_t b = 0; b < 6; b++) {
            double p[V];
            int count[V] = {0};
            exact(temperatures[a], tops[b], p);
            for (int k = 0; k < n; k++) {
                int32_t id = -1;
                assert_ok(sample_nucleus(logits, V, temperatures[a], tops[b], (k + 0.5) / n,
                                         scratch, &id, &err));
                assert_in_range(id, 0, V - 1);
                count[id]++;
            }
            for (int i = 0; i < V; i++)
                if (fabs(count[i] - n * p[i]) > 2)
                    fail_msg("t %g top_p %g token %d: %d draws of %d, expected %g", temperatures[a],
                             tops[b], i, count[i], n, n * p[i]);
        }
    }
}

static void nucleus_of_one_is_greedy(void **state) {
    (void)state;
    struct mil_error err;
    int32_t scratch[V], id, greedy;
    assert_ok(sample_greedy(logits, V, &greedy, &err));
    assert_int_equal(greedy, 2); /* the first of two equal maxima */
    for (int k = 0; k < 100; k++) {
        assert_ok(sample_nucleus(logits, V, 0.7, 1e-12, rng_uniform(1, 2, 3, (uint64_t)k), scratch,
                                 &id, &err));
        assert_int_equal(id, greedy);
    }
}

/* A low temperature must not overflow, and leaves the maxima only. */
static void extreme_temperature(void **state) {
    (void)state;
    struct mil_error err;
    int32_t scratch[V], id;
    for (int k = 1; k < 100; k++) {
        assert_ok(sample_nucleus(logits, V, 1e-30, 1, k / 100.0, scratch, &id, &err));
        assert_true(id == 2 || id == 4);
    }
    static const float far[3] = {-3e38f, 3e38f, 0};
    assert_ok(sample_nucleus(far, 3, 1e-3, 1, 1 - 1e-16, scratch, &id, &err));
    assert_int_equal(id, 1);
}

static void not_finite(void **state) {
    (void)state;
    struct mil_error err;
    int32_t scratch[3], id;
    double lse;
    const float bad[3] = {1, NAN, 0}, inf[3] = {1, 0, INFINITY};
    const float none[2] = {-INFINITY, -INFINITY};
    assert_fails(sample_greedy(bad, 3, &id, &err), MIL_NUMERIC, "token 1 is NaN");
    assert_fails(sample_nucleus(inf, 3, 1, 0.9, 0.5, scratch, &id, &err), MIL_NUMERIC,
                 "token 2 is infinite");
    assert_fails(log_sum_exp(none, 2, &lse, &err), MIL_NUMERIC, "infinite");
}

static void log_sum(void **state) {
    (void)state;
    struct mil_error err;
    double lse, want = 0;
    for (int i = 0; i < V; i++) want += exp((double)logits[i]);
    assert_ok(log_sum_exp(logits, V, &lse, &err));
    /* V terms of relative error 2^-52 each, a logarithm: 1e-14 leaves an order of magnitude. */
    assert_true(fabs(lse - log(want)) < 1e-14);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(distribution),
                                       cmocka_unit_test(nucleus_of_one_is_greedy),
                                       cmocka_unit_test(extreme_temperature),
                                       cmocka_unit_test(not_finite), cmocka_unit_test(log_sum)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
