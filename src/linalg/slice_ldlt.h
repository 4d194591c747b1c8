/* SPDX-License-Identifier: Apache-2.0 */
/* slice_ldlt.h - symmetric indefinite factorisation in f32, for counting eigenvalues and for
 * shift-invert; private to src/linalg.
 *
 *     A = G - shift I = T_1 ... T_s D T_s^T ... T_1^T,    T_i = (Q_i + I) (I + L_i E_i^T)
 *
 * Step i diagonalises a diagonal block of the Schur complement by an orthogonal Q_i, eliminates the
 * coordinates E_i whose eigenvalues are large and leaves the others to the next step: a pivot
 * search without pivoting, and all work is matrix products.  D is diagonal, so by Sylvester's law
 * of inertia its negative entries count the eigenvalues of G below the shift, whatever the T_i are
 * as long as they are regular. */
#ifndef MIL_LINALG_SLICE_LDLT_H
#define MIL_LINALG_SLICE_LDLT_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

struct ldlt_step {
    int64_t at, width,
        taken; /* block [at, at + width), of which the first `taken` are eliminated */
};
struct ldlt {
    int64_t k, steps;
    float *a;               /* [k, k]: L_i in columns [at, at + taken), rows from at + width */
    float *d;               /* [k] */
    float *q;               /* steps x LDLT_WIDTH^2: Q_i [width, width], ld = width */
    struct ldlt_step *step; /* [steps] */
    float *panel;           /* scratch: the columns of a group of steps */
    double *panel_f64;      /* scratch [k, LDLT_WIDTH], ldlt_multiply's */
};
enum { LDLT_WIDTH = 192 };

enum mil_status ldlt_new(int64_t k, struct ldlt *f, struct mil_error *err);
/* The same on *g [k, k], which f owns afterwards (*g is nulled), also after a failure. */
enum mil_status ldlt_new_in(int64_t k, float **g, struct ldlt *f, struct mil_error *err);
void ldlt_release(struct ldlt *f);
/* Factorise g - shift I; g [k, k] lower triangle, ld = k, may be f->a. *below = number of negative pivots.
 * MIL_NUMERIC: a pivot is zero or not finite. */
enum mil_status ldlt_factor(struct ldlt *f, const float *g, float shift, int64_t *below,
                            struct mil_error *err);
/* x [k, p] = A^{-1} x, in f32. */
void ldlt_solve(const struct ldlt *f, float *x, int64_t p);
/* x [k, p] = T_1 ... D ... T_1^T x in f64: the product of the factors as they are stored. */
void ldlt_multiply(const struct ldlt *f, double *x, int64_t p);
size_t ldlt_memory(int64_t k);

#endif
