/* SPDX-License-Identifier: Apache-2.0 */
/* AdaLoRA's importance at every level against the reference in f64. */
#include "kern_cases.h"

static void one_case(const struct kern *k, const struct kern *oracle, int64_t n, bool with_base) {
    struct context x = {.op = "importance", .kern = k};
    snprintf(x.shape, sizeof x.shape, "n %ld base %d", (long)n, with_base);
    struct buf b[5]; /* mean, spread, p, base, g */
    for (uint32_t i = 0; i < 5; i++) {
        b[i] = buf_new(DT_F32, 1, n, 0, 1);
        buf_fill(&b[i], FILL_NORMAL, i, 1);
    }
    for (int64_t i = 0; i < n; i++)
        for (int s = 0; s < 2; s++) buf_set(&b[s], 0, i, fabs(b[s].f64[i]));
    /* the constants are exact in f32: only the data's arithmetic differs */
    struct kern_importance a = {.mean = b[0].p,
                                .spread = b[1].p,
                                .p = b[2].p,
                                .base = with_base ? b[3].p : NULL,
                                .g = b[4].p,
                                .beta1 = 0.875,
                                .beta2 = 0.75,
                                .grad_scale = 0.5};
    struct kern_importance e = a;
    e.mean = b[0].f64, e.spread = b[1].f64, e.p = b[2].f64, e.g = b[4].f64;
    e.base = with_base ? b[3].f64 : NULL;
    k->importance(&a, 0, n);
    oracle->importance(&e, 0, n);
    /* Normal draws are below 6: i <= 36 with three roundings (sum, scale exact, product): 2 u i.  The mean adds
     * two products and a sum of positive numbers: 5 u relative.  The difference i - mean errs absolutely by
     * (2 + 5 + 1) u 36, and the spread by a quarter of that and 3 u relative. */
    buf_compare(&x, &b[0], "mean", 5 * U, 0);
    buf_compare(&x, &b[1], "spread", 3 * U, 0.25 * 8 * U * 36);
    for (int i = 0; i < 5; i++) buf_free(&b[i]);
}

static void importance_table(const struct kern *k, const struct kern *oracle) {
    static const int64_t lengths[] = {0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 257};
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (int base = 0; base < 2; base++) one_case(k, oracle, lengths[l], base);
}

/* Cut anywhere, an element has the same bits. */
static void importance_cuts(const struct kern *k, const struct kern *oracle) {
    enum { N = 61 };
    float mean[2][N], spread[2][N], p[N], g[N];
    (void)oracle;
    for (int i = 0; i < N; i++) {
        p[i] = (float)(i - 30) / 7, g[i] = (float)((i * 37) % 61) / 13;
        for (int c = 0; c < 2; c++) mean[c][i] = (float)i, spread[c][i] = (float)(N - i);
    }
    for (int c = 0; c < 2; c++) {
        struct kern_importance a = {.mean = mean[c],
                                    .spread = spread[c],
                                    .p = p,
                                    .g = g,
                                    .beta1 = 0.85,
                                    .beta2 = 0.85,
                                    .grad_scale = 0.3};
        for (int i = 0; c == 0 && i < N; i += 5) k->importance(&a, i, i + 5 < N ? i + 5 : N);
        if (c == 1) k->importance(&a, 0, N);
    }
    assert_memory_equal(mean[0], mean[1], sizeof mean[0]);
    assert_memory_equal(spread[0], spread[1], sizeof spread[0]);
}

static const struct table_test tests[] = {
    {"importance_table", importance_table},
    {"importance_cuts", importance_cuts},
};

int main(void) {
    struct CMUnitTest list[] = {table_unit_test(&tests[0]), table_unit_test(&tests[1])};
    return cmocka_run_group_tests(list, NULL, NULL);
}
