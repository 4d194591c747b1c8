/* SPDX-License-Identifier: Apache-2.0 */
/* triangle.h - a Cholesky factor in f32, packed for solving; private to src/linalg.
 *
 * LAPACK's triangular solves repack the whole triangle for every few right-hand sides; a Krylov space
 * does hundreds of them with 16.  Here the lower triangle is packed once, in the order in which both
 * substitutions read it, at half the size:
 *
 *     panel 0   panel 1      panel 2          panel I: rows 16 I .. 16 I + 15
 *     [D0]      [-L10][D1]   [-L20][-L21][D2] ...   tiles of 16 x 16, D the inverse of the diagonal
 *                                                   block; beyond k rows, the identity */
#ifndef MIL_LINALG_TRIANGLE_H
#define MIL_LINALG_TRIANGLE_H

#include "core/error.h"
#include "kern/kern.h"

struct triangle {
    int64_t k, panels;
    float *tiles;
    struct kern kern;
};

/* From the lower triangle of l [k, k], column-major.  MIL_NOMEM; MIL_NUMERIC: a zero or NaN on the
 * diagonal. */
enum mil_status triangle_init(struct triangle *t, const float *l, int64_t k, struct mil_error *err);
/* Also on a zeroed struct. */
void triangle_release(struct triangle *t);
/* x <- (L L^T)^-1 x, x [k, p] column-major; spare: triangle_spare(t, p) floats. */
void triangle_solve(const struct triangle *t, float *x, int64_t p, float *spare);
size_t triangle_spare(const struct triangle *t, int64_t p);
/* Bytes that triangle_init takes. */
size_t triangle_bytes(int64_t k);

#endif
