/* SPDX-License-Identifier: Apache-2.0 */
/* test_lora_ga.c - the factors of LoRA-GA from a given gradient: which triplets and of which size, by the equations that
 * singular vectors satisfy with the gradient itself; gradients of low rank, of rank zero, and not finite.
 *
 * Tolerance.  The decomposition is good to 1e-12 relative, factors are rounded to f32 (6e-8 of entries below 1), and a product
 * over at most 40 of them adds up errors of 6e-8 sqrt(40): 1e-6 of the largest value is allowed. */
#include "fixture.h"

enum { M = 40, N = 24, R = 5, K = 2 * R };

/* A module of shape [M, N] with gradient g and weight w. */
struct trial {
    float g[M * N], w[M * N];
    float a0[R * N], b0[M * R];
    struct adapter_options o;
    struct method_init io;
};

static void prepare(struct trial *t, enum lora_ga_direction direction, enum lora_ga_scale scale) {
    t->o = options_of("lora_ga", R);
    t->o.lora_ga =
        (struct lora_ga_options){.direction = direction, .scale = scale, .stable_gamma = 16};
    t->io = (struct method_init){.w = {t->w, DT_F32, M, N},
                                 .g = t->g,
                                 .m = M,
                                 .n = N,
                                 .r = R,
                                 .scale = 2,
                                 .seed = 42,
                                 .stream = 9,
                                 .options = &t->o,
                                 .a0 = t->a0,
                                 .b0 = t->b0};
}

static enum mil_status make(struct trial *t) {
    const struct method *m;
    assert_ok(method_find("lora_ga", &m, &err));
    return m->init(&t->io, &err);
}

/* G = sum over `rank` of random outer products, each half as large as the one before; W random. */
static void random_gradient(struct trial *t, int rank) {
    for (int i = 0; i < M * N; i++) {
        double sum = 0;
        for (int k = 0; k < rank; k++)
            sum += ldexp(normal((uint32_t)k, i / N) * normal((uint32_t)(100 + k), i % N), -k);
        t->g[i] = (float)(0.01 * sum);
        t->w[i] = (float)normal(7, i);
    }
}

static void decompose(const float *w, int64_t rank, struct svd_result *out) {
    const struct svd_matrix matrix = {w, DT_F32, M, N};
    const struct svd_request q = {.end = SVD_TOP, .rank = rank, .only = "dgesdd"};
    assert_ok(svd_compute(&matrix, &q, out, &err));
}

static double dot(const double *x, const float *y, int64_t n, int64_t stride) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * (double)y[i * stride];
    return sum;
}

/* A0's row t is size_a v_a, B0's column t is size_b u_b. */
static void expect(const struct trial *t, const struct svd_result *svd, int row, int64_t a,
                   double size_a, int64_t b, double size_b) {
    for (int64_t k = 0; k < K; k++) {
        double x = dot(svd->v + k * N, t->a0 + row * N, N, 1),
               y = dot(svd->u + k * M, t->b0 + row, M, R);
        assert_true(fabs(x - (k == a ? size_a : 0)) <= 1e-6 * size_a);
        assert_true(fabs(y - (k == b ? size_b : 0)) <= 1e-6 * size_b);
    }
}

static void directions_and_scales(void **state) {
    (void)state;
    static struct trial t;
    struct svd_result svd, weight;
    const double stable = pow(M, 0.25) / 4;
    random_gradient(&t, N);
    decompose(t.g, K, &svd);
    decompose(t.w, 1, &weight);
    for (int d = LORA_GA_AR_B2R; d <= LORA_GA_AR_BR; d++)
        for (int s = LORA_GA_PAPER; s <= LORA_GA_UNIT; s++) {
            prepare(&t, (enum lora_ga_direction)d, (enum lora_ga_scale)s);
            assert_ok(make(&t));
            int64_t b0 = d == LORA_GA_AR_B2R ? R : 0;
            for (int i = 0; i < R; i++) {
                int64_t a = d == LORA_GA_AR_B2R   ? i
                            : d == LORA_GA_A2R_BR ? R + i
                                                  : 2 * i + 1,
                        b = d == LORA_GA_AR_B2R   ? R + i
                            : d == LORA_GA_A2R_BR ? i
                                                  : 2 * i;
                double sa = 1, sb = svd.sigma[b];
                if (s == LORA_GA_PAPER) sa = sb = stable;
                if (s == LORA_GA_STABLE) sb *= stable;
                if (s == LORA_GA_WEIGHT_SVD) sb *= weight.sigma[0] / svd.sigma[b0];
                if (s == LORA_GA_GD) sa /= 2, sb /= 2;
                expect(&t, &svd, i, a, sa, b, sb);
            }
            assert_true(fabs(t.io.sigma_max - svd.sigma[0]) <= 1e-12 * svd.sigma[0]);
        }
    svd_release(&svd);
    svd_release(&weight);
}

/* Number of the triplet that row / column t is along. */
static int64_t along(const double *vectors, const float *x, int64_t n, int64_t stride) {
    int64_t best = 0;
    for (int64_t k = 1; k < K; k++)
        if (fabs(dot(vectors + k * n, x, n, stride)) > fabs(dot(vectors + best * n, x, n, stride)))
            best = k;
    return best;
}

/* PEFT draws r triplets for both factors, the paper's code r for each without overlap. */
static void random_triplets(void **state) {
    (void)state;
    static struct trial t;
    struct svd_result svd;
    random_gradient(&t, N);
    decompose(t.g, K, &svd);
    for (int s = LORA_GA_PAPER; s <= LORA_GA_STABLE; s++) {
        int used[K] = {0}, again[K] = {0};
        prepare(&t, LORA_GA_RANDOM, (enum lora_ga_scale)s);
        assert_ok(make(&t));
        for (int i = 0; i < R; i++) {
            used[along(svd.v, t.a0 + i * N, N, 1)]++;
            again[along(svd.u, t.b0 + i, M, R)]++;
        }
        for (int k = 0; k < K; k++) {
            assert_true(used[k] <= 1 && again[k] <= 1);
            assert_int_equal(again[k], s == LORA_GA_PAPER ? !used[k] : used[k]);
        }
        t.io.seed = 43;
        float before = t.a0[0];
        assert_ok(make(&t));
        assert_true(t.a0[0] != before);
    }
    svd_release(&svd);
}

/* Fewer supervised tokens than 2 r: the trailing values are zero (in f32: rounding errors), the vectors still orthonormal. */
static void low_rank(void **state) {
    (void)state;
    static struct trial t;
    const double stable = pow(M, 0.25) / 4;
    for (int rank = 1; rank <= 6; rank++) {
        random_gradient(&t, rank);
        prepare(&t, LORA_GA_AR_B2R, LORA_GA_PAPER);
        assert_ok(make(&t));
        assert_true(t.io.residual < 1e-12 && t.io.orthogonality < 1e-10 && t.io.cut <= 1e-10);
        for (int i = 0; i < R; i++)
            for (int k = 0; k < R; k++) {
                double a = 0, b = 0;
                for (int j = 0; j < N; j++) a += (double)t.a0[i * N + j] * (double)t.a0[k * N + j];
                for (int j = 0; j < M; j++) b += (double)t.b0[j * R + i] * (double)t.b0[j * R + k];
                assert_true(fabs(a / stable / stable - (i == k)) <= 1e-6);
                assert_true(fabs(b / stable / stable - (i == k)) <= 1e-6);
            }
        prepare(&t, LORA_GA_AR_B2R, LORA_GA_STABLE);
        assert_ok(make(&t));
        for (int i = 0; rank <= R && i < M * R; i++) /* sigma_r and beyond: 6e-8 of the first */
            assert_true(fabs((double)t.b0[i]) <= 1e-6 * t.io.sigma_max);
    }
    memset(t.g, 0, sizeof t.g); /* exactly of rank one */
    t.g[3 * N + 4] = 0.5F;
    prepare(&t, LORA_GA_AR_B2R, LORA_GA_WEIGHT_SVD);
    assert_ok(make(&t));
    for (int i = 0; i < M * R; i++) assert_true(t.b0[i] == 0);
}

static void no_direction(void **state) {
    (void)state;
    static struct trial t;
    memset(t.g, 0, sizeof t.g);
    prepare(&t, LORA_GA_AR_B2R, LORA_GA_PAPER);
    assert_fails(make(&t), MIL_NUMERIC, "is zero");
    t.g[5 * N + 7] = INFINITY;
    assert_fails(make(&t), MIL_NUMERIC, "not finite at [5, 7]");
}

/* A hook that leaves the gradients as they are: the module is named. */
static enum mil_status nothing(void *ctx, const struct delta *deltas, size_t n, float *const *g,
                               struct mil_error *e) {
    (void)ctx, (void)deltas, (void)n, (void)g, (void)e;
    return MIL_OK;
}
static void the_module_is_named(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    const struct adapter_init_hooks hooks = {.gradients = nothing};
    struct adapter_options o = options_of("lora_ga", 2);
    struct adapter *a;
    assert_fails(adapter_init_with(base, &o, &hooks, &a, &err), MIL_NUMERIC,
                 "_proj: the gradient of the loss is zero");
    checkpoint_free(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directions_and_scales),
        cmocka_unit_test(random_triplets),
        cmocka_unit_test(low_rank),
        cmocka_unit_test(no_direction),
        cmocka_unit_test(the_module_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
