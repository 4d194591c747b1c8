/* SPDX-License-Identifier: Apache-2.0 */
/* slice.h - the parts of the method "slice" (slice.c); private to it.
 *
 * Everything but the refinement and the proof works in f32 on G = s^2 H^T H, s a power of two that
 * brings the mean eigenvalue into [1/2, 2).  Eigenvalues are counted from below. */
#ifndef MIL_LINALG_SLICE_H
#define MIL_LINALG_SLICE_H

#include "linalg/internal.h"
#include "linalg/slice_ldlt.h"

/* ---- slice_lanczos.c: block Lanczos with full orthogonalisation, in f32 ---- */

/* y [k, p] = Op x, Op symmetric. */
typedef void (*lanczos_operator)(const void *ctx, const float *x, float *y, int64_t p);
struct lanczos {
    int64_t k, block, cap, dim; /* dim: multiplied basis vectors, <= cap, multiples of block */
    float *q;                   /* [k, cap + block]: the basis and the next block */
    float *t;                   /* [cap, cap]: upper triangle of Q^T Op Q */
    float *next;                /* [block, block]: coupling of the last block to the next one */
    float *value, *vector;      /* Ritz values, ascending [dim], and vectors [dim, dim] in Q */
    float *leak;                /* [dim]: ||Op x - value x|| */
    lanczos_operator op;
    const void *ctx;
    double *wide; /* scratch [k, block] */
    float *coef;  /* scratch [cap, block] */
};
/* cap is rounded up to a multiple of block. */
enum mil_status lanczos_new(int64_t k, int64_t block, int64_t cap, lanczos_operator op,
                            const void *ctx, struct lanczos *b, struct mil_error *err);
void lanczos_release(struct lanczos *b);
size_t lanczos_memory(int64_t k, int64_t block, int64_t cap);
/* A random start block (Philox, fixed seed). */
enum mil_status lanczos_start(struct lanczos *b, struct mil_error *err);
/* Multiply blocks until dim >= dims.  MIL_NUMERIC: the Krylov space is exhausted. */
enum mil_status lanczos_extend(struct lanczos *b, int64_t dims, struct mil_error *err);
/* Ritz values, vectors and leaks of the basis as it is. */
enum mil_status lanczos_ritz(struct lanczos *b, struct mil_error *err);
/* x [k, n] = Q times n Ritz vectors from first on. */
void lanczos_vectors(const struct lanczos *b, int64_t first, int64_t n, float *x);
/* A new start: the `block` Ritz vectors with the largest values. */
void lanczos_restart_top(struct lanczos *b);

/* ---- slice_solve.c: the correction equation ---- */

/* Known eigenpairs around the shift: z [k, n] with eigenvalues value [n] ascending, of which those
 * in [own, own + p) are being refined; beyond them no eigenvalue is closer to the shift than
 * `far`. */
struct slice_solver {
    const struct ldlt *f;
    double shift, s2; /* of G; s^2 */
    const float *z;
    const double *value;
    int64_t n, own, p;
    double far;
};
/* refine_solve; ctx is a struct slice_solver. */
enum mil_status slice_solve(void *ctx, const double *lambda, const double *r, double *t, int64_t p,
                            struct mil_error *err);

/* ---- slice_proof.c ---- */

/* For i < 2: bound[i] >= ||T D T^T - (G - shift[i] I)||_2 of factors[i], with probability at least
 * 1 - 4e-9; improved until bound[i] <= wanted[i] or no more is to be had. */
enum mil_status slice_bounds(const struct svd_matrix *w, double s,
                             const struct ldlt *const factors[2], const double shift[2],
                             const double wanted[2], double bound[2], struct mil_error *err);

#endif
