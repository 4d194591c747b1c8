/* SPDX-License-Identifier: Apache-2.0 */
/* qr.h - the leading part of a QR factorisation of a weight matrix, in f64.
 *
 * W = Q R by Householder reflections, Q [m, k] with orthonormal columns, R [k, n] upper trapezoidal, k = min(m, n).
 * The first r columns of Q and rows of R depend on the first r reflections alone, which the first r columns of W
 * determine: the rest is never computed.  Signs are LAPACK's (dgeqrf), as in numpy and torch.linalg.qr: the diagonal
 * of R may be negative.  The same input gives the same bits on one machine, build and number of threads. */
#ifndef MIL_LINALG_QR_H
#define MIL_LINALG_QR_H

#include "linalg/svd.h"

/* q [r, m]: row t is column t of Q; rows [r, n]: the first r rows of R.  W is finite (MIL_INPUT names the first entry
 * that is not), 1 <= r <= min(m, n) (MIL_USAGE).  MIL_NOMEM. */
enum mil_status qr_leading(const struct svd_matrix *w, int64_t r, double *q, double *rows,
                           struct mil_error *err);
/* Bytes of scratch that qr_leading takes. */
size_t qr_memory(int64_t m, int64_t n, int64_t r);

#endif
