/* SPDX-License-Identifier: Apache-2.0 */
/* spectrum.h - matrices with given singular values, for the tests of src/linalg:
 *     W = U diag(d) V^T,   U, V each the product of three random Householder reflections,
 * so that no singular vector is a unit vector.  Rounding perturbs the values by some eps d_0. */
#ifndef MIL_TESTS_LINALG_SPECTRUM_H
#define MIL_TESTS_LINALG_SPECTRUM_H

#include <math.h>

#include "core/mem.h"
#include "core/rng.h"
#include "linalg/svd.h"

/* w <- (I - 2 v v^T / v^T v) w (left) or w (I - 2 v v^T / v^T v), v random. */
static inline void spectrum_reflect(double *w, int64_t m, int64_t n, int left, uint32_t stream) {
    int64_t len = left ? m : n, other = left ? n : m;
    double *v = mem_alloc(MEM_OTHER, (size_t)len, sizeof *v), vv = 0;
    double *dot = mem_calloc(MEM_OTHER, (size_t)other, sizeof *dot);
    for (int64_t i = 0; i < len; i++) {
        v[i] = rng_normal(17, rng_stream(RNG_TEST, stream), 0, (uint64_t)i);
        vv += v[i] * v[i];
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) dot[left ? j : i] += v[left ? i : j] * w[i * n + j];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            w[i * n + j] -= 2 / vv * v[left ? i : j] * dot[left ? j : i];
    mem_free(dot);
    mem_free(v);
}

/* [m, n] row-major; d has min(m, n) values in any order.  mem_free. */
static inline double *spectrum_matrix(int64_t m, int64_t n, const double *d, uint32_t stream) {
    double *w = mem_calloc(MEM_OTHER, (size_t)(m * n), sizeof *w);
    int64_t k = m < n ? m : n;
    for (int64_t t = 0; t < k; t++) w[t * n + t] = d[t];
    for (uint32_t i = 0; i < 3; i++) {
        spectrum_reflect(w, m, n, 1, stream + 2 * i);
        spectrum_reflect(w, m, n, 0, stream + 2 * i + 1);
    }
    return w;
}

/* d_t from 1 down to `last` in equal ratios. */
static inline void spectrum_graded(double *d, int64_t k, double last) {
    for (int64_t t = 0; t < k; t++) d[t] = k > 1 ? pow(last, (double)t / (double)(k - 1)) : 1;
}

#endif
