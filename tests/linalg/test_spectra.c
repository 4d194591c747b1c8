/* SPDX-License-Identifier: Apache-2.0 */
/* test_spectra.c - every method of the chain, and the chain itself, on matrices with known or
 * difficult singular values, judged by judge.h.
 *
 *     test_linalg_spectra [matrix [method]]        one matrix, one method ("chain": no `only`)
 *
 * The known spectra check the reference in turn: Q1 diag(d) Q2 is formed with a backward error of a
 * few eps for each of its k + 6 reflections, so LAPACK must find d to within 16 k eps d_0. */
#include "trial.h"

#include "spectra.h"

struct matrix {
    const char *name;
    int64_t m, n, r;
    spectrum_fn spectrum; /* one of these two */
    entries_fn entries;
    double scale;    /* 0: 1 */
    enum dtype type; /* stored as; DT_F32 is 0, so f64 is said with `f64` */
};

/* ---- one matrix ---- */

static double *values_of(const struct matrix *c) {
    int64_t k = c->m < c->n ? c->m : c->n;
    double *w = reals(c->m * c->n);
    if (c->spectrum) {
        double *d = reals(k);
        for (int64_t i = 0; i < k; i++) d[i] = c->spectrum(i, k, c->r);
        fill_spectrum(w, c->m, c->n, d);
        mem_free(d);
    } else {
        c->entries(w, c->m, c->n);
    }
    for (int64_t i = 0; c->scale != 0 && i < c->m * c->n; i++) w[i] *= c->scale;
    return w;
}

/* Stored exactly, a known spectrum is what the reference finds. */
static void check_reference(const struct matrix *c, const struct reference *f) {
    if (!c->spectrum || c->type != DT_F64 || c->scale != 0) return;
    for (int64_t i = 0; i < f->k; i++)
        assert_true(fabs(f->s[i] - f->scale * c->spectrum(i, f->k, c->r)) <=
                    16 * (double)f->k * DBL_EPSILON * f->s[0]);
}

static void try_matrix(const struct matrix *c) {
    if (only_matrix && strcmp(only_matrix, c->name) != 0) return;
    struct reference f;
    double start = clock_seconds();
    threads_set(c->m * c->n <= 1 << 12 ? 1 : 0); /* threads only cost on the small ones */
    double *values = values_of(c);
    void *data = stored_as(values, c->m * c->n, c->type);
    struct svd_matrix w = {data, c->type, c->m, c->n};
    reference_init(&f, &w);
    check_reference(c, &f);
    try_all(&(struct trial){c->name, &w, &f, c->r});
    reference_release(&f);
    mem_free(data);
    mem_free(values);
    if (getenv("MILORA_VERBOSE"))
        printf("%-22s %5lld x %5lld %s: %.2f s\n", c->name, (long long)c->m, (long long)c->n,
               dtype_name(c->type), clock_seconds() - start);
}

static void try_table(const struct matrix *table, size_t n) {
    failures = 0;
    for (size_t i = 0; i < n; i++) try_matrix(&table[i]);
    if (failures) fail_msg("%d failures", failures);
}

#define TABLE(t) try_table(t, sizeof(t) / sizeof *(t))

/* ---- the matrices ---- */

static void test_known(void **state) {
    (void)state;
    static const struct matrix table[] = {
        {"geometric", 40, 40, 6, spectrum_geometric, NULL, 0, DT_F64},
        {"geometric tall", 64, 24, 6, spectrum_geometric, NULL, 0, DT_F64},
        {"geometric wide", 24, 64, 6, spectrum_geometric, NULL, 0, DT_F64},
        {"beyond eps", 48, 40, 6, spectrum_beyond_eps, NULL, 0, DT_F64},
        {"arithmetic", 30, 50, 7, spectrum_arithmetic, NULL, 0, DT_F64},
        {"two levels", 48, 40, 7, spectrum_two_levels, NULL, 0, DT_F64},
        {"orthogonal", 33, 33, 5, spectrum_orthogonal, NULL, 0, DT_F64},
        {"orthogonal rows", 20, 60, 5, spectrum_orthogonal, NULL, 0, DT_F64},
        {"wide bottom", 60, 64, 5, spectrum_wide_bottom, NULL, 0, DT_F64},
        {"wide top", 64, 60, 5, spectrum_wide_top, NULL, 0, DT_F64},
        {"cut", 50, 40, 6, spectrum_cut, NULL, 0, DT_F64},
        {"cut 1e-9", 40, 50, 6, spectrum_cut_1e9, NULL, 0, DT_F64},
        {"cut 1e-12", 40, 40, 6, spectrum_cut_1e12, NULL, 0, DT_F64},
        {"triples", 40, 42, 7, spectrum_triples, NULL, 0, DT_F64},
        {"lacks one", 40, 40, 6, spectrum_lacks_one, NULL, 0, DT_F64},
        {"lacks one wide", 30, 64, 6, spectrum_lacks_one, NULL, 0, DT_F64},
        {"lacks r", 64, 30, 6, spectrum_lacks_r, NULL, 0, DT_F64},
        {"lacks many", 40, 44, 6, spectrum_lacks_many, NULL, 0, DT_F64},
        {"rank one", 40, 30, 6, spectrum_rank_one, NULL, 0, DT_F64},
        {"heavy head", 48, 56, 8, spectrum_heavy_head, NULL, 0, DT_F64},
        {"huge geometric", 40, 40, 6, spectrum_geometric, NULL, 1e150, DT_F64},
        {"tiny cut", 40, 40, 6, spectrum_cut, NULL, 1e-150, DT_F64},
    };
    TABLE(table);
}

static void test_entries(void **state) {
    (void)state;
    static const struct matrix table[] = {
        {"1 x 1", 1, 1, 1, NULL, entries_gaussian, 0, DT_F64},
        {"zero 1 x 1", 1, 1, 1, NULL, entries_zero, 0, DT_F64},
        {"1 x n", 1, 37, 1, NULL, entries_gaussian, 0, DT_F64},
        {"m x 1", 41, 1, 1, NULL, entries_gaussian, 0, DT_F64},
        {"2 x 50", 2, 50, 1, NULL, entries_gaussian, 0, DT_F64},
        {"3 x 3", 3, 3, 2, NULL, entries_gaussian, 0, DT_F64},
        {"zero", 30, 40, 6, NULL, entries_zero, 0, DT_F64},
        {"identity", 40, 40, 6, NULL, entries_identity, 0, DT_F64},
        {"identity wide", 24, 40, 6, NULL, entries_identity, 0, DT_F64},
        {"shift", 40, 40, 6, NULL, entries_shift, 0, DT_F64},
        {"diagonal", 44, 50, 6, NULL, entries_diagonal, 0, DT_F64},
        {"single entry", 33, 40, 4, NULL, entries_single, 0, DT_F64},
        {"gaussian", 64, 64, 8, NULL, entries_gaussian, 0, DT_F64},
        {"spikes", 50, 64, 8, NULL, entries_spikes, 0, DT_F64},
        {"outlier column", 64, 50, 8, NULL, entries_outlier_column, 0, DT_F64},
        {"outlier column wide", 40, 64, 8, NULL, entries_outlier_column, 0, DT_F64},
        {"zero lines", 40, 40, 5, NULL, entries_zero_lines, 0, DT_F64},
        {"zero lines wide", 30, 50, 5, NULL, entries_zero_lines, 0, DT_F64},
        {"twins", 50, 40, 6, NULL, entries_twins, 0, DT_F64},
        {"kahan", 64, 64, 6, NULL, entries_kahan, 0, DT_F64},
        {"hilbert", 40, 30, 6, NULL, entries_hilbert, 0, DT_F64},
        {"vandermonde", 48, 32, 6, NULL, entries_vandermonde, 0, DT_F64},
        {"integers", 48, 40, 6, NULL, entries_integers, 0, DT_F64},
        {"stripes", 40, 48, 8, NULL, entries_stripes, 0, DT_F64},
        {"blocks", 40, 40, 7, NULL, entries_blocks, 0, DT_F64},
        {"huge", 48, 40, 6, NULL, entries_gaussian, 1e150, DT_F64},
        {"huge twins", 40, 48, 6, NULL, entries_twins, 1e151, DT_F64},
        {"tiny", 40, 48, 6, NULL, entries_gaussian, 1e-150, DT_F64},
        {"tiny squares vanish", 40, 48, 6, NULL, entries_gaussian, 1e-170, DT_F64},
        {"subnormal", 40, 40, 5, NULL, entries_gaussian, 1e-300, DT_F64},
    };
    TABLE(table);
}

/* Rounded values are another matrix: the reference is of those. */
static void test_stored(void **state) {
    (void)state;
    static const struct matrix table[] = {
        {"bf16 gaussian", 64, 48, 6, NULL, entries_gaussian, 0, DT_BF16},
        {"bf16 geometric", 48, 64, 6, spectrum_geometric, NULL, 0, DT_BF16},
        {"bf16 lacks r", 64, 64, 6, spectrum_lacks_r, NULL, 0, DT_BF16},
        {"bf16 integers", 40, 60, 6, NULL, entries_integers, 0, DT_BF16},
        {"bf16 stripes", 60, 40, 6, NULL, entries_stripes, 0, DT_BF16},
        {"bf16 outlier column", 60, 64, 6, NULL, entries_outlier_column, 0, DT_BF16},
        {"bf16 subnormals", 48, 40, 6, NULL, entries_integers, 0x1p-133, DT_BF16},
        {"bf16 small", 48, 40, 6, NULL, entries_gaussian, 1e-37, DT_BF16},
        {"bf16 largest", 40, 48, 6, NULL, entries_gaussian, 8e37, DT_BF16},
        {"bf16 zero", 40, 48, 6, NULL, entries_zero, 0, DT_BF16},
        {"f16 gaussian", 48, 64, 6, NULL, entries_gaussian, 0, DT_F16},
        {"f16 subnormals", 48, 40, 6, NULL, entries_gaussian, 1e-6, DT_F16},
        {"f16 largest", 48, 40, 6, NULL, entries_gaussian, 1e4, DT_F16},
        {"f32 geometric", 64, 48, 6, spectrum_geometric, NULL, 0, DT_F32},
        {"f32 wide bottom", 48, 60, 6, spectrum_wide_bottom, NULL, 0, DT_F32},
        {"f32 largest", 48, 60, 6, NULL, entries_gaussian, 5e37, DT_F32},
        {"f32 subnormals", 60, 48, 6, NULL, entries_gaussian, 1e-42, DT_F32},
    };
    TABLE(table);
}

/* Wide enough for blocked code, where LAPACK's reference takes a tenth of a second. */
static void test_blocked(void **state) {
    (void)state;
    static const struct matrix table[] = {
        {"bulk", 320, 320, 16, NULL, entries_gaussian, 0, DT_BF16},
        {"bulk 1:2.7", 256, 688, 24, NULL, entries_gaussian, 0, DT_BF16},
        {"bulk tall f64", 640, 300, 16, NULL, entries_gaussian, 0, DT_F64},
        {"spikes blocked", 400, 330, 12, NULL, entries_spikes, 0, DT_F32},
        {"heavy head blocked", 300, 420, 20, spectrum_heavy_head, NULL, 0, DT_BF16},
        {"cut blocked", 310, 350, 16, spectrum_cut, NULL, 0, DT_F64},
        {"lacks many blocked", 384, 300, 12, spectrum_lacks_many, NULL, 0, DT_F64},
        {"wide bottom blocked", 300, 310, 8, spectrum_wide_bottom, NULL, 0, DT_F64},
        {"geometric blocked", 300, 300, 8, spectrum_geometric, NULL, 0, DT_F64},
        {"twins blocked", 350, 310, 12, NULL, entries_twins, 0, DT_BF16},
        {"long", 160, 1400, 12, NULL, entries_gaussian, 0, DT_BF16},
        {"tall", 1200, 200, 12, spectrum_two_levels, NULL, 0, DT_F64},
    };
    TABLE(table);
}

/* As wide as weights are; LAPACK's reference takes seconds each. */
static void test_large(void **state) {
    (void)state;
    static const struct matrix table[] = {
        {"large bulk", 1024, 1024, 32, NULL, entries_gaussian, 0, DT_BF16},
        {"large bulk 1:2.7", 1024, 2752, 64, NULL, entries_gaussian, 0, DT_BF16},
        {"large spikes", 1536, 1024, 32, NULL, entries_spikes, 0, DT_F32},
        {"large heavy head", 1024, 1100, 64, spectrum_heavy_head, NULL, 0, DT_BF16},
        {"large lacks many", 1100, 1050, 32, spectrum_lacks_many, NULL, 0, DT_BF16},
        {"large cut", 1030, 1200, 32, spectrum_cut, NULL, 0, DT_F64},
        {"large wide bottom", 1200, 1024, 16, spectrum_wide_bottom, NULL, 0, DT_F32},
        {"large orthogonal", 1024, 1024, 16, spectrum_orthogonal, NULL, 0, DT_BF16},
        {"large outlier", 1100, 1200, 16, NULL, entries_outlier_column, 0, DT_F32},
        {"large huge", 1024, 1024, 16, NULL, entries_gaussian, 3e37, DT_BF16},
        {"large subnormal", 1024, 1030, 16, NULL, entries_integers, 0x1p-133, DT_BF16},
    };
    bool slow = getenv("MILORA_SLOW") || only_matrix;
    if (!slow) fprintf(stderr, "SKIP most of %s: takes a minute, needs MILORA_SLOW=1\n", __func__);
    try_table(table, slow ? sizeof table / sizeof *table : 1);
}

/* ---- the judge ---- */

enum { JUDGE_M = 40, JUDGE_N = 30, JUDGE_R = 5 };

/* The judge's verdict on a sound result after `spoil`; the result is restored. */
static bool spoiled(const struct reference *f, const int64_t *index, const struct svd_matrix *w,
                    void (*spoil)(struct svd_result *r), const char *part) {
    struct svd_request q = {.end = SVD_BOTTOM, .rank = JUDGE_R};
    struct svd_result r;
    struct figures ignored = {0};
    char text[512] = "";
    assert_ok(svd_compute(w, &q, &r, &err));
    spoil(&r);
    bool bad = judge_result(f, index, &r, &ignored, text, sizeof text);
    if (!strstr(text, part)) fail_msg("'%s' lacks '%s'", text, part);
    svd_release(&r);
    return bad;
}

static void nothing(struct svd_result *r) {
    (void)r;
}
static void flip(struct svd_result *r) {
    for (int i = 0; i < JUDGE_M; i++) r->u[i] = -r->u[i];
    for (int i = 0; i < JUDGE_N; i++) r->v[i] = -r->v[i];
}
static void flip_v(struct svd_result *r) {
    for (int i = 0; i < JUDGE_N; i++) r->v[i] = -r->v[i];
}
static void shift_sigma(struct svd_result *r) {
    r->sigma[2] += 4e-12 * r->sigma_max;
    r->residual = 4e-12;
}
static void turn(struct svd_result *r) { /* u_0, u_1 and v_0, v_1 by an angle */
    double c = cos(1e-6), s = sin(1e-6);
    cblas_drot(JUDGE_M, r->u, 1, r->u + JUDGE_M, 1, c, s);
    cblas_drot(JUDGE_N, r->v, 1, r->v + JUDGE_N, 1, c, s);
}
static void shorten(struct svd_result *r) {
    for (int i = 0; i < JUDGE_M; i++) r->u[i] *= 1 - 1e-11;
    for (int i = 0; i < JUDGE_N; i++) r->v[i] *= 1 - 1e-11;
}
static void understate(struct svd_result *r) {
    r->v[3] += 5e-13;
    r->residual = 0;
}
static void wrong_max(struct svd_result *r) {
    r->sigma_max *= 1.001;
}
static void boast(struct svd_result *r) {
    r->cut = 1e-3;
}
static void vanish(struct svd_result *r) {
    r->v[7] = NAN;
}

/* Every kind of fault is seen; above all the wrong triplets, each of them perfect. */
static void test_judge(void **state) {
    (void)state;
    static const struct matrix c = {"arithmetic",        JUDGE_M, JUDGE_N, JUDGE_R,
                                    spectrum_arithmetic, NULL,    0,       DT_F64};
    double *values = values_of(&c);
    struct svd_matrix w = {values, DT_F64, c.m, c.n};
    struct reference f;
    int64_t bottom[JUDGE_R] = {25, 26, 27, 28, 29}, above[JUDGE_R] = {24, 26, 27, 28, 29};
    reference_init(&f, &w);
    assert_false(spoiled(&f, bottom, &w, nothing, ""));
    assert_true(spoiled(&f, above, &w, nothing, "value 24 of W"));
    assert_true(spoiled(&f, bottom, &w, flip, "not positive"));
    assert_true(spoiled(&f, bottom, &w, flip_v, "residual"));
    assert_true(spoiled(&f, bottom, &w, shift_sigma, "residual"));
    assert_true(spoiled(&f, bottom, &w, turn, "residual"));
    assert_true(spoiled(&f, bottom, &w, shorten, "identity"));
    assert_true(spoiled(&f, bottom, &w, understate, "says residual"));
    assert_true(spoiled(&f, bottom, &w, wrong_max, "sigma_max"));
    assert_true(spoiled(&f, bottom, &w, boast, "cut"));
    assert_true(spoiled(&f, bottom, &w, vanish, "residual"));
    f.s[25] += 3e-9; /* as if the values were right and the space were not */
    assert_true(spoiled(&f, bottom, &w, nothing, "value 25"));
    f.s[25] -= 3e-9;
    for (int64_t i = 0; i < c.n; i++) { /* another space of the same values */
        double t = f.v[24 * c.n + i];
        f.v[24 * c.n + i] = f.v[25 * c.n + i];
        f.v[25 * c.n + i] = t;
    }
    assert_true(spoiled(&f, bottom, &w, nothing, "outside its vector"));
    reference_release(&f);
    mem_free(values);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),   cmocka_unit_test(test_known),
        cmocka_unit_test(test_entries), cmocka_unit_test(test_stored),
        cmocka_unit_test(test_blocked), cmocka_unit_test(test_large),
    };
    only_matrix = argc > 1 ? argv[1] : NULL;
    only_method = argc > 2 ? argv[2] : NULL;
    return cmocka_run_group_tests(tests, NULL, report);
}
