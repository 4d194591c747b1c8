/* SPDX-License-Identifier: Apache-2.0 */
/* test_d2.c - the delta form keeps the relative precision of a small change in bf16; the residual
 * layout loses it (d2.h says what is measured).
 *
 * Bound for the delta form: each operand is rounded once (relative 2^-9), H once more; with random
 * signs the errors of dB, A, x's product H, B0 and dA add in squares: about 2^-9 * sqrt(4) /
 * sqrt(3) = 0.23 %, below 1 % by a factor of 4.  Real weights: $MILORA_SMOLLM2 (GGUF or directory),
 * or build/models/SmolLM2-135M-Instruct.gguf; otherwise a synthetic spectrum. */
#include "fixture.h"

#include "d2.h"

static void check(float *w, int64_t m, int64_t n, int64_t r, const char *what) {
    struct d2 t;
    assert_ok(d2_init(&t, w, m, n, r, "milora", &err));
    for (int steps = 1; steps <= 30; steps += 29) {
        d2_move(&t, 3e-4 * sqrt(steps));
        struct d2_errors e = d2_measure(&t);
        printf("%s, %d steps: residual %.2g, naive %.2g, delta %.2g\n", what, steps, e.residual,
               e.naive, e.delta);
        assert_true(e.delta < 0.01);
        assert_true(e.residual > 0.1);
        assert_true(e.naive > 2 * e.delta);
    }
    d2_release(&t);
}

/* Gaussian bulk with a few strong directions, as trained weights have. */
static void test_synthetic(void **state) {
    (void)state;
    int64_t m = 256, n = 192;
    float *w = mem_alloc(MEM_OTHER, (size_t)(m * n), sizeof *w);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double x = 0.05 * normal(80, i * n + j);
            for (int t = 0; t < 8; t++)
                x += 0.1 * normal(81, i * 8 + t) * normal(82, j * 8 + t) / (1 + t);
            w[i * n + j] = (float)x;
        }
    check(w, m, n, 16, "synthetic 256 x 192, r = 16");
    mem_free(w);
}

static const char *real_model(void) {
    const char *path = getenv("MILORA_SMOLLM2");
    if (path && *path) return path;
    path = TEST_ROOT "/build/models/SmolLM2-135M-Instruct.gguf";
    return path_exists(path) ? path : NULL;
}

static void test_real(void **state) {
    (void)state;
    static const struct {
        int64_t layer;
        enum module module;
        const char *what;
    } cases[] = {{0, MODULE_Q, "layer 0 q_proj"}, {15, MODULE_UP, "layer 15 up_proj"}};
    struct checkpoint *c;
    if (!real_model()) {
        fprintf(stderr, "SKIP %s: no $MILORA_SMOLLM2 and no build/models\n", __func__);
        skip();
    }
    assert_ok(checkpoint_open(real_model(), CHECKPOINT_WEIGHTS, &c, &err));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct weight_view *v = checkpoint_module(c, cases[i].layer, cases[i].module);
        float *w = mem_alloc(MEM_OTHER, (size_t)(v->rows * v->cols), sizeof *w);
        weight_to_f32(v, w);
        check(w, v->rows, v->cols, 32, cases[i].what);
        mem_free(w);
    }
    checkpoint_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synthetic),
        cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
