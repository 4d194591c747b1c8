/* SPDX-License-Identifier: Apache-2.0 */
/* tridiagonal_vectors.h - eigenvectors and shifted solves of a symmetric tridiagonal or band matrix
 * T, O(k) or O(k kd^2) work each; private to the method "tridiagonal". */
#ifndef MIL_LINALG_TRIDIAGONAL_VECTORS_H
#define MIL_LINALG_TRIDIAGONAL_VECTORS_H

#include <stdint.h>

#include "core/error.h"

/* T [k, k] with kd subdiagonals.  kd = 1: diagonal d [k], off-diagonal e [k - 1].  kd > 1: band [kd +
 * 1, k], column j holds T(j .. j + kd, j).  norm >= max |eigenvalue|, > 0. */
struct band_matrix {
    int k, kd;
    const double *d, *e, *band;
    double norm;
};

/* Eigenvectors z [k, p] of the eigenvalues lambda [p] (ascending, right to some eps norm), each of
 * norm 1 and right to about k eps norm / gap.  Vectors of values closer than 1e-8 norm are made
 * orthonormal to each other.  MIL_NUMERIC: two of them came out the same. */
enum mil_status band_vectors(const struct band_matrix *t, const double *lambda, int64_t p,
                             double *z, struct mil_error *err);
/* z_i <- f(T - lambda_i) z_i for z [k, p], f(x) = x / (x^2 + delta^2): the inverse away from the
 * eigenvalue, nothing along it. delta > 0. */
enum mil_status band_solve(const struct band_matrix *t, const double *lambda, double delta,
                           int64_t p, double *z, struct mil_error *err);

#endif
