/* SPDX-License-Identifier: Apache-2.0 */
/* krylov.h - the parts of the method "krylov" (krylov.c has the plan); private to src/linalg.
 *
 * Everything here is in f32 on the scaled Gram matrix  C = c G ~ c H^T H, c = k / ||W||_F^2, whose mean
 * eigenvalue is 1.  `side` is +1 for the smallest eigenvalues, -1 for the largest: the wanted ones
 * are the smallest of side C. */
#ifndef MIL_LINALG_KRYLOV_H
#define MIL_LINALG_KRYLOV_H

#include "linalg/internal.h"
#include "linalg/triangle.h"

/* Lower triangle of C in f32, column-major, ld = k (gram_f32.c).  bf16 products by oneDNN where the
 * machine has them, else ssyrk.  Its error ||C - c G||_2 is about 5e-6 at k = 4096. */
enum mil_status gram_f32(const struct svd_matrix *w, double c, float *gram, struct mil_error *err);

/* z [k, b] = Op x [k, b]. */
typedef void (*krylov_op)(void *ctx, const float *x, float *z, int64_t b);
/* The p largest Ritz pairs of a symmetric Op from a block Krylov space of width b (krylov_space.c). */
struct krylov_space {
    int64_t k, b, p;
    int64_t max_dim; /* of the space: a multiple of b, > p */
    int64_t wanted;  /* the first of the p that must converge fully; the rest are guards */
    int64_t enough;  /* of the p must converge to the guards' tolerance; wanted <= enough <= p */
    double tolerance, guard_tolerance; /* residual over the Ritz value */
    krylov_op op;
    void *ctx;
    float *v;      /* out: [k, p], orthonormal, largest first */
    int64_t found; /* out: how many from the first on converged to guard_tolerance, <= p */
    int64_t dims;  /* out: of the space used */
};
enum mil_status krylov_ritz(struct krylov_space *s, struct mil_error *err);

/* Cholesky factor of  A = side (C - theta I) + tau V V^T,  V [k, p] spanning the smallest eigenvalues
 * of side C: positive definite when theta lies below all the others (deflated.c). */
struct deflated {
    const struct svd_matrix *w;
    int64_t k, p;
    int side;
    double c, theta, tau;
    double outer;           /* eigenvalue of C: none outside V lies on the wanted side of it */
    double top;             /* largest eigenvalue of C */
    const float *v;         /* [k, p] */
    float *factor;          /* [k, k] lower; not needed once it is proven and packed */
    struct triangle packed; /* the factor for deflated_solve */
    const struct triangle *below; /* side +1: of C + mu I */
    const float *gram;            /* side -1: C, lower triangle [k, k] */
    double mu;
    /* Approximate pairs of H besides the refined ones: vectors x [k, guards], values s, and what H^T y
     * - s x leaves, [k, guards]. */
    int64_t guards;
    const double *guard_x, *guard_sigma, *guard_residual;
    int inner_steps; /* of the Chebyshev iteration */
};
/* factor: holds C's lower triangle on entry, the factor on success.  MIL_NUMERIC: not positive
 * definite. */
enum mil_status deflated_factor(struct deflated *d, struct mil_error *err);
/* A refine_solve with ctx = struct deflated. */
enum mil_status deflated_solve(void *ctx, const double *lambda, const double *r, double *t,
                               int64_t p, struct mil_error *err);
/* ||factor factor^T - (side (c G - theta I) + tau V V^T)||_2, G = H^T H exactly: a randomised estimate
 * times 2 (two steps of a block power iteration from 8 Gaussian vectors, in f64).  factor factor^T
 * is positive semidefinite whatever it is, so all eigenvalues of side (c G - theta I) + tau V V^T
 * exceed minus that: G has at most p eigenvalues on the wanted side of theta by more. */
enum mil_status deflated_error(const struct deflated *d, double *out, struct mil_error *err);

#endif
