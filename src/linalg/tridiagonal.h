/* SPDX-License-Identifier: Apache-2.0 */
/* tridiagonal.h - the Gram matrix reduced to tridiagonal form, its eigenvalues, and blocks of singular
 * pairs refined from it; shared by the method "tridiagonal" and by svd_values. */
#ifndef MIL_LINALG_TRIDIAGONAL_H
#define MIL_LINALG_TRIDIAGONAL_H

#include <lapacke.h>

#include "linalg/internal.h"

/* G = Q B Q^T, B tridiagonal or (large k) of bandwidth kd, eigenvalues from T, similar to B.  They are
 * counted in ascending order: number j is index k - 1 - j. */
struct reduction {
    const struct svd_matrix *w;
    int k, kd, p;
    lapack_int lwork;
    double *g;                    /* [k, k] reflectors of Q */
    double *d, *e, *tau, *lambda; /* [k] T: d, e; lambda ascending */
    double *band;                 /* kd > 1: B [kd + 1, k] */
    double *work;                 /* lwork + k numbers */
    double largest;               /* max |lambda| = s_0^2 */
    double eta;                   /* backward error of lambda: k eps largest */
    bool *in;                     /* [k] number j is in the block */
    double *shift;                /* [p] lambda of the block, ascending */
    double *x, *y, *sigma;        /* the block: [k, p], [l, p], [p] descending */
};

/* Allocate and reduce to bandwidth kd: 1, 2 .. k - 2, or 0, what is fastest for k.  On failure, too,
 * reduction_release is due.  MIL_NOMEM, MIL_NUMERIC. */
enum mil_status reduction_run(const struct svd_matrix *w, int kd, struct reduction *t,
                              struct mil_error *err);
void reduction_release(struct reduction *t);
/* The squares of the entries, and their sums, are ordinary numbers (or all 0). */
bool reduction_in_range(const struct svd_matrix *w, double frobenius);
/* Make a block of these indices (ascending) and of the neighbours that G does not separate from
 * them, at most 32 at each edge, and refine it until the residual relative to s_0 is below target
 * or falls no more.  MIL_NUMERIC: no convergence, or to other values than those of G. */
enum mil_status reduction_refine(struct reduction *t, const int64_t *index, int64_t rank,
                                 double target, double *residual, struct mil_error *err);

#endif
