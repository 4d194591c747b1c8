/* SPDX-License-Identifier: Apache-2.0 */
/* tridiagonal_vectors.h - eigenvectors and shifted solves of a symmetric tridiagonal matrix T, O(k)
 * work each; private to the method "tridiagonal". */
#ifndef MIL_LINALG_TRIDIAGONAL_VECTORS_H
#define MIL_LINALG_TRIDIAGONAL_VECTORS_H

#include <stdint.h>

#include "core/error.h"

/* T [k, k]: diagonal d [k], off-diagonal e [k - 1]; norm >= max |eigenvalue|, > 0. */
struct tridiagonal {
    int k;
    const double *d, *e;
    double norm;
};

/* Eigenvectors z [k, p] of the eigenvalues lambda [p] (ascending, right to some eps norm), each of
 * norm 1 and right to about k eps norm / gap.  Vectors of values closer than 1e-8 norm are made
 * orthonormal to each other.  MIL_NUMERIC: two of them came out the same. */
enum mil_status tridiagonal_vectors(const struct tridiagonal *t, const double *lambda, int64_t p,
                                    double *z, struct mil_error *err);
/* z_i <- f(T - lambda_i) z_i for z [k, p], f(x) = x / (x^2 + delta^2): the inverse away from the
 * eigenvalue, nothing along it. delta > 0. */
enum mil_status tridiagonal_solve(const struct tridiagonal *t, const double *lambda, double delta,
                                  int64_t p, double *z, struct mil_error *err);

#endif
