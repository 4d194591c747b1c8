/* SPDX-License-Identifier: Apache-2.0 */
/* test_spectra_exact.c - the methods for large matrices on matrices whose decomposition is known to
 * the last bit, in f32, without LAPACK.
 *
 * With H_k(i, j) = (-1)^popcount(i & j) (Hadamard's matrix, orthogonal up to sqrt(k)), D1, D2
 * diagonal signs and C a choice of k columns,
 *     W = D1 H_l C diag(d) H_k D2 / sqrt(k l),   d integers,   sum of d <= 2^24,   k l a power of 4:
 * every entry is an integer of at most 24 bits over a power of two, and so a float, and the singular
 * vectors, +-1 / sqrt(k), are exact as well: the reference's error is 0.  All entries of a vector
 * are equal in size, so canonical signs are decided by rounding; judge.h looks at the result's own.
 *
 *     test_linalg_spectra_exact [matrix [method]] */
#include "trial.h"

#include "core/rng.h"

struct exact {
    const char *name;
    int64_t m, n, r;
    double (*value)(int64_t i, int64_t k, int64_t r); /* descending in i, rounded here */
    bool slow;
};

/* ---- spectra ---- */

static double arithmetic(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return 16 * (double)(k - i);
}
/* Singular values of a square Gaussian matrix: quantiles of the quarter circle law. */
static double bulk(int64_t i, int64_t k, int64_t r) {
    double want = 1 - ((double)i + 0.5) / (double)k, lo = 0, hi = 2;
    (void)r;
    for (int step = 0; step < 60; step++) {
        double s = (lo + hi) / 2, below = (s * sqrt(4 - s * s) / 2 + 2 * asin(s / 2)) / acos(-1);
        *(below < want ? &lo : &hi) = s;
    }
    return 8000 * lo;
}
static double two_levels(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return i < k / 2 ? 10000 : 10;
}
static double one_level(int64_t i, int64_t k, int64_t r) {
    (void)i, (void)k, (void)r;
    return 5;
}
static double wide_bottom(int64_t i, int64_t k, int64_t r) {
    (void)k, (void)r;
    return i < 300 ? 20000 - 30 * (double)i : 3000;
}
static double wide_top(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return i < k - 200 ? 10000 : 40 * (double)(k - i);
}
/* Equal across every cut. */
static double cut(int64_t i, int64_t k, int64_t r) {
    const int64_t cuts[] = {r, k - r, (k - r) / 2, (k - r) / 2 + r};
    for (int c = 0; c < 4; c++)
        if (i == cuts[c]) return arithmetic(i - 1, k, r);
    return arithmetic(i, k, r);
}
static double pairs(int64_t i, int64_t k, int64_t r) {
    return arithmetic(i / 2 * 2, k, r);
}
static double lacks_one(int64_t i, int64_t k, int64_t r) {
    return i + 1 < k ? arithmetic(i, k, r) : 0;
}
static double lacks_r(int64_t i, int64_t k, int64_t r) {
    return i + r < k ? arithmetic(i, k, r) : 0;
}
static double lacks_half(int64_t i, int64_t k, int64_t r) {
    return i < k / 2 ? arithmetic(i, k, r) : 0;
}
static double rank_one(int64_t i, int64_t k, int64_t r) {
    (void)k, (void)r;
    return i == 0 ? 3 : 0;
}
/* A head that decays as a power over a bulk. */
static double heavy_head(int64_t i, int64_t k, int64_t r) {
    return 4e6 * pow((double)(i + 1), -3) + arithmetic(i, k, r) / 4 + 900;
}
static double geometric(int64_t i, int64_t k, int64_t r) {
    (void)k, (void)r;
    return 200000 * pow(0.985, (double)i);
}
static double zero(int64_t i, int64_t k, int64_t r) {
    (void)i, (void)k, (void)r;
    return 0;
}

/* ---- the matrix and its decomposition ---- */

static double hadamard(int64_t i, int64_t j) {
    return __builtin_parityll((unsigned long long)(i & j)) ? -1 : 1;
}
static double sign_of(int64_t i, uint32_t stream) {
    return rng_words(5, rng_stream(RNG_TEST, stream), 0, (uint64_t)i).w[0] & 1 ? -1 : 1;
}
/* Column of H_l for triplet j. */
static int64_t column_of(int64_t j, int64_t l) {
    return (j * 77 + 13) % l;
}

/* x [k] := H_k x. */
static void transform(double *x, int64_t k) {
    for (int64_t h = 1; h < k; h *= 2)
        for (int64_t i = 0; i < k; i += 2 * h)
            for (int64_t j = i; j < i + h; j++) {
                double a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
}

static void exact_vectors(struct reference *f, bool wide, int64_t l) {
    double *x = wide ? f->u : f->v, *y = wide ? f->v : f->u;
    for (int64_t j = 0; j < f->k; j++) {
        for (int64_t i = 0; i < f->k; i++)
            x[j * f->k + i] = sign_of(i, 1) * hadamard(i, j) / sqrt((double)f->k);
        for (int64_t i = 0; i < l; i++)
            y[j * l + i] = sign_of(i, 2) * hadamard(i, column_of(j, l)) / sqrt((double)l);
    }
}

/* f: the decomposition; the matrix in f32 (mem_free). */
static float *exact_init(struct reference *f, const struct exact *c) {
    bool wide = c->m < c->n;
    int64_t k = wide ? c->m : c->n, l = wide ? c->n : c->m;
    *f = (struct reference){.m = c->m,
                            .n = c->n,
                            .k = k,
                            .scale = 1,
                            .a = reals(k * l),
                            .s = reals(k),
                            .u = reals(k * c->m),
                            .v = reals(k * c->n)};
    float *w = mem_alloc(MEM_OTHER, (size_t)(k * l), sizeof *w);
    double *row = reals(k), sum = 0;
    for (int64_t j = 0; j < k; j++) sum += f->s[j] = nearbyint(c->value(j, k, c->r));
    assert_true(sum <= 0x1p24);
    for (int64_t i = 0; i < l; i++) {
        for (int64_t j = 0; j < k; j++) row[j] = f->s[j] * hadamard(i, column_of(j, l));
        transform(row, k);
        for (int64_t j = 0; j < k; j++) {
            double e = sign_of(i, 2) * sign_of(j, 1) * row[j] / sqrt((double)(k * l));
            int64_t at = wide ? j * l + i : i * k + j;
            f->a[at] = w[at] = (float)e;
            assert_true((double)w[at] == e);
        }
    }
    exact_vectors(f, wide, l);
    mem_free(row);
    return w;
}

static void try_exact(const struct exact *c) {
    struct reference f;
    float *w = exact_init(&f, c);
    try_all(&(struct trial){c->name, &(struct svd_matrix){w, DT_F32, c->m, c->n}, &f, c->r});
    reference_release(&f);
    mem_free(w);
}

static void test_exact(void **state) {
    (void)state;
    static const struct exact table[] = {
        {"bulk", 1024, 1024, 32, bulk, false},
        {"heavy head", 1024, 1024, 16, heavy_head, true},
        {"cut", 1024, 1024, 16, cut, true},
        {"lacks one", 1024, 1024, 16, lacks_one, false},
        {"wide bottom", 1024, 1024, 16, wide_bottom, true},
        {"arithmetic wide", 1024, 4096, 64, arithmetic, true},
        {"arithmetic tall", 4096, 1024, 32, arithmetic, true},
        {"two levels", 1024, 1024, 16, two_levels, true},
        {"one level", 1024, 1024, 16, one_level, true},
        {"wide top", 1024, 1024, 16, wide_top, true},
        {"pairs", 1024, 1024, 31, pairs, true},
        {"lacks one wide", 1024, 4096, 16, lacks_one, true},
        {"lacks r", 1024, 1024, 16, lacks_r, true},
        {"lacks half", 1024, 1024, 16, lacks_half, true},
        {"rank one", 1024, 1024, 16, rank_one, true},
        {"geometric", 1024, 1024, 24, geometric, true},
        {"zero", 1024, 1024, 8, zero, true},
        {"bulk 2048", 2048, 2048, 64, bulk, true},
    };
    failures = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        bool named = only_matrix && strcmp(only_matrix, table[i].name) == 0;
        if (only_matrix ? named : !table[i].slow || getenv("MILORA_SLOW")) try_exact(&table[i]);
    }
    if (!getenv("MILORA_SLOW"))
        fprintf(stderr, "SKIP most of %s: takes minutes, needs MILORA_SLOW=1\n", __func__);
    if (failures) fail_msg("%d failures", failures);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact)};
    only_matrix = argc > 1 ? argv[1] : NULL;
    only_method = argc > 2 ? argv[2] : NULL;
    return cmocka_run_group_tests(tests, NULL, report);
}
