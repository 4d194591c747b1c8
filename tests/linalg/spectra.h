/* SPDX-License-Identifier: Apache-2.0 */
/* spectra.h - matrices whose singular values are known or hard, for test_spectra.c.
 *
 * W = Q1 diag(d) Q2 with Q1, Q2 the orthogonal factors of Gaussian matrices, so that d is the
 * spectrum up to a few eps d_0; and classic matrices given by their entries.  All in f64, to be
 * rounded to a stored type by the caller. */
#ifndef MIL_TESTS_LINALG_SPECTRA_H
#define MIL_TESTS_LINALG_SPECTRA_H

#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "linalg/judge.h"

static inline double draw(uint32_t stream, int64_t i) {
    return rng_normal(17, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
}

static inline void fill_gaussian(double *w, int64_t count, uint32_t stream) {
    for (int64_t i = 0; i < count; i++) w[i] = draw(stream, i);
}

/* w (n rows or columns of length len) times a random orthogonal matrix [len, len]. */
static inline void rotate(double *w, int64_t m, int64_t n, char side, uint32_t stream) {
    int64_t len = side == 'L' ? m : n;
    double *q = reals(len * len), *tau = reals(len);
    fill_gaussian(q, len * len, stream);
    REQUIRE(LAPACKE_dgeqrf(LAPACK_COL_MAJOR, (int)len, (int)len, q, (int)len, tau) == 0);
    REQUIRE(LAPACKE_dormqr(LAPACK_COL_MAJOR, side, 'N', (int)m, (int)n, (int)len, q, (int)len, tau,
                           w, (int)m) == 0);
    mem_free(tau);
    mem_free(q);
}

/* w [m, n] with singular values d [min(m, n)].  Only the short side's rotation is a full one; the
 * long side is mixed by `mixers` reflections, which cost l k each. */
static inline void fill_spectrum(double *w, int64_t m, int64_t n, const double *d) {
    int64_t k = m < n ? m : n, l = m + n - k;
    enum { MIXERS = 6 };
    /* columns of length l: h [l, k], column-major, = reflections of diag(d), times Q */
    double *h = reals(l * k), *x = reals(l);
    for (int64_t i = 0; i < k; i++) h[i * l + i] = d[i];
    for (uint32_t r = 0; r < MIXERS; r++) {
        fill_gaussian(x, l, 100 + r);
        double xx = cblas_ddot((int)l, x, 1, x, 1);
        for (int64_t c = 0; c < k; c++)
            cblas_daxpy((int)l, -2 * cblas_ddot((int)l, x, 1, h + c * l, 1) / xx, x, 1, h + c * l,
                        1);
    }
    rotate(h, l, k, 'R', 99);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) w[i * n + j] = m >= n ? h[j * l + i] : h[i * l + j];
    mem_free(x);
    mem_free(h);
}

/* ---- spectra: value i of k; r is the rank that the requests of the case use ---- */

typedef double (*spectrum_fn)(int64_t i, int64_t k, int64_t r);

static inline double spectrum_geometric(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return pow(10, -14.0 * (double)i / (double)(k - 1));
}
static inline double spectrum_beyond_eps(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return pow(10, -60.0 * (double)i / (double)(k - 1));
}
static inline double spectrum_arithmetic(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return (double)(k - i) / (double)k;
}
static inline double spectrum_two_levels(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return i < k / 2 ? 1 : 1e-3;
}
static inline double spectrum_orthogonal(int64_t i, int64_t k, int64_t r) {
    (void)i, (void)k, (void)r;
    return 1;
}
/* More equal values at the bottom than a method would carry along. */
static inline double spectrum_wide_bottom(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return i < 6 ? 1 + 0.5 * (double)(6 - i) : i < k / 4 ? 0.5 : 0.01;
}
static inline double spectrum_wide_top(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return i < k - 6 ? 1 : 0.1 * (double)(k - i);
}
/* Arithmetic, but equal on both sides of every cut: bottom, top, middle. */
static inline double cut_pair(int64_t i, int64_t k, int64_t r, double apart) {
    const int64_t cuts[] = {r, k - r, (k - r) / 2, (k - r) / 2 + r};
    for (int c = 0; c < 4; c++)
        if (i == cuts[c]) return spectrum_arithmetic(i - 1, k, r) - apart;
    return spectrum_arithmetic(i, k, r);
}
static inline double spectrum_cut(int64_t i, int64_t k, int64_t r) {
    return cut_pair(i, k, r, 0);
}
static inline double spectrum_cut_1e9(int64_t i, int64_t k, int64_t r) {
    return cut_pair(i, k, r, 1e-9);
}
static inline double spectrum_cut_1e12(int64_t i, int64_t k, int64_t r) {
    return cut_pair(i, k, r, 1e-12);
}
static inline double spectrum_triples(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return (double)(k - i / 3 * 3) / (double)k;
}
static inline double spectrum_lacks_one(int64_t i, int64_t k, int64_t r) {
    return i + 1 < k ? spectrum_arithmetic(i, k, r) : 0;
}
static inline double spectrum_lacks_r(int64_t i, int64_t k, int64_t r) {
    return i + r < k ? spectrum_arithmetic(i, k, r) : 0;
}
static inline double spectrum_lacks_many(int64_t i, int64_t k, int64_t r) {
    return i + 3 * r < k ? spectrum_arithmetic(i, k, r) : 0;
}
static inline double spectrum_rank_one(int64_t i, int64_t k, int64_t r) {
    (void)k, (void)r;
    return i == 0 ? 3 : 0;
}
/* A head that decays as a power, and a flat bulk: weights of trained networks. */
static inline double spectrum_heavy_head(int64_t i, int64_t k, int64_t r) {
    (void)r;
    return 1e4 * pow((double)(i + 1), -3.0) + 1 - 0.9 * (double)i / (double)k;
}

/* ---- matrices by their entries: w [m, n] zeroed before ---- */

typedef void (*entries_fn)(double *w, int64_t m, int64_t n);

static inline void entries_zero(double *w, int64_t m, int64_t n) {
    (void)w, (void)m, (void)n;
}
static inline void entries_gaussian(double *w, int64_t m, int64_t n) {
    fill_gaussian(w, m * n, 1);
}
static inline void entries_identity(double *w, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m && i < n; i++) w[i * n + i] = 7;
}
/* Singular values 1 (k - 1 times) and 0: defective as a matrix, harmless as an SVD. */
static inline void entries_shift(double *w, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m && i + 1 < n; i++) w[i * n + i + 1] = 1;
}
/* Diagonal in no order, with signs and zeros. */
static inline void entries_diagonal(double *w, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m && i < n; i++) w[i * n + i] = (double)(i * 7 % 11) - 4;
}
static inline void entries_single(double *w, int64_t m, int64_t n) {
    w[m * n / 2] = -5;
}
static inline void entries_spikes(double *w, int64_t m, int64_t n) {
    fill_gaussian(w, m * n, 2);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            for (int t = 0; t < 6; t++)
                w[i * n + j] +=
                    1e4 / sqrt((double)(m + n)) / (t + 1) * draw(3, i * 6 + t) * draw(4, j * 6 + t);
}
static inline void entries_outlier_column(double *w, int64_t m, int64_t n) {
    fill_gaussian(w, m * n, 5);
    for (int64_t i = 0; i < m; i++) w[i * n + n / 3] *= 1e6;
}
static inline void entries_zero_lines(double *w, int64_t m, int64_t n) {
    fill_gaussian(w, m * n, 6);
    for (int64_t i = 0; i < m; i++) w[i * n + n / 2] = 0;
    for (int64_t j = 0; j < n; j++) w[m / 3 * n + j] = 0;
}
static inline void entries_twins(double *w, int64_t m, int64_t n) {
    fill_gaussian(w, m * n, 7);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 1; j < n; j += 3) w[i * n + j] = w[i * n + j - 1];
}
/* Upper triangular, condition number far beyond 1 / eps at k = 64, diagonal that hides it. */
static inline void entries_kahan(double *w, int64_t m, int64_t n) {
    double s = sin(1.2), c = cos(1.2);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = i; j < n; j++) w[i * n + j] = pow(s, (double)i) * (i == j ? 1 : -c);
}
static inline void entries_hilbert(double *w, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) w[i * n + j] = 1 / (double)(i + j + 1);
}
static inline void entries_vandermonde(double *w, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) w[i * n + j] = pow((double)(i + 1) / (double)m, (double)j);
}
/* -3 .. 3: the same values in every type. */
static inline void entries_integers(double *w, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m * n; i++) w[i] = fmax(-3, fmin(3, nearbyint(draw(8, i))));
}
/* Many equal rows: low rank in integers. */
static inline void entries_stripes(double *w, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) w[i * n + j] = (i % 4 == j % 4) + (i % 3 == 0);
}
static inline void entries_blocks(double *w, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            w[i * n + j] = (i < m / 2) == (j < n / 2) ? draw(9, i % (m / 2) * n + j % (n / 2)) : 0;
}

/* ---- stored types ---- */

/* A copy of w as `t`, rounded (mem_free). */
static inline void *stored_as(const double *w, int64_t count, enum dtype t) {
    void *out = mem_alloc(MEM_OTHER, (size_t)count, dtype_size(t));
    REQUIRE(out);
    for (int64_t i = 0; i < count; i++) {
        if (t == DT_BF16) ((bf16 *)out)[i] = bf16_from_f32((float)w[i]);
        if (t == DT_F16) ((f16 *)out)[i] = f16_from_f32((float)w[i]);
        if (t == DT_F32) ((float *)out)[i] = (float)w[i];
        if (t == DT_F64) ((double *)out)[i] = w[i];
    }
    return out;
}

#endif
