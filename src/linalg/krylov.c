/* SPDX-License-Identifier: Apache-2.0 */
/* krylov.c - method "krylov": the r smallest or largest triplets of a large matrix, in mixed
 * precision, exact where it counts.
 *
 * 1. C = c H^T H in f32 (gram_f32.c).
 * 2. A block Krylov space (krylov_space.c), of (C + mu I)^-1 by Cholesky for the bottom, of C itself
 *    for the top, gives r + guards Ritz vectors to what f32 can tell, 1e-3 .. 1e-5.
 * 3. One Rayleigh-Ritz step and the residuals with W itself in f64, guards included.
 * 4. The deflated factor (deflated.c) at theta between the wanted values and the rest.
 * 5. Newton's method in f64 on the r wanted triplets (refine.c), the factor as its solver: each step
 *    gains two to three digits.
 * 6. Proof.  In the basis [V, V'] of the space's p = r + guards vectors and the rest, G is
 *    [[Lambda, E^T], [E, H]], and the factor shows H >= theta - eta (deflated_error), in units of
 *    c G and turned by side.  For lambda_r < x < lambda_{r+1} (Ritz values), the matrix
 *    Lambda - x - E^T (H - x)^-1 E has as many negative eigenvalues as G - x, and on the guards it is
 *    positive definite if
 *        sum over guards j of ||e_j||^2 / (lambda_j - x)  <  theta - eta - x:
 *    then exactly r eigenvalues of G lie beyond x, and they are the ones found.
 * What f32 cannot resolve (a gap below its error, an indefinite factor) is MIL_NUMERIC, and the
 * chain goes on. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/krylov.h"

enum { SMALLEST = 1024, WIDTH = 16, INNER_STEPS = 6, NEWTON_STEPS = 8 };
#define TARGET 2e-14 /* relative residual at which the refinement stops */

struct run {
    const struct svd_matrix *w;
    int64_t k, l, r, p; /* p = r + guards */
    int side;
    double c, sigma_max;   /* sigma_max: an estimate, good to 1e-6 */
    float *gram, *inverse; /* [k, k]; inverse: factor of C + mu I, then free */
    float *v;              /* [k, p] */
    double *x, *y, *sigma; /* pairs [k, p], [l, p], [p]: wanted first */
    double *residual;      /* [k, p]: H^T y - s x */
    double *guard_lambda;
    struct deflated deflated;
};

static int64_t guards(int64_t r) {
    return r / 2 > 24 ? r / 2 : 24;
}

static bool suits(const struct svd_matrix *w, const int64_t *index, int64_t rank) {
    int64_t k = short_side(w);
    bool together = index[rank - 1] - index[0] == rank - 1;
    return k >= SMALLEST && together && (index[0] == 0 || index[rank - 1] == k - 1) &&
           8 * (rank + guards(rank)) <= k;
}

static size_t memory(int64_t m, int64_t n, int64_t rank) {
    size_t k = (size_t)(m < n ? m : n), l = (size_t)(m < n ? n : m),
           p = (size_t)(rank + guards(rank)), r = (size_t)rank;
    return 2 * k * k * sizeof(float) + (k * (3 * p + 8 * r) + l * (p + 3 * r)) * sizeof(double) +
           (32u << 20);
}

/* ---- step 2 ---- */

static void apply_inverse(void *ctx, const float *x, float *z, int64_t b) {
    const struct run *a = ctx;
    int k = (int)a->k;
    memcpy(z, x, (size_t)(a->k * b) * sizeof *z);
    cblas_strsm(CblasColMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, k, (int)b, 1.0f,
                a->inverse, k, z, k);
    cblas_strsm(CblasColMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, k, (int)b, 1.0f,
                a->inverse, k, z, k);
}

static void apply_gram(void *ctx, const float *x, float *z, int64_t b) {
    const struct run *a = ctx;
    int k = (int)a->k;
    cblas_ssymm(CblasColMajor, CblasLeft, CblasLower, k, (int)b, 1.0f, a->gram, k, x, k, 0.0f, z,
                k);
}

/* The factor of C + mu I with the smallest mu that f32 bears. */
static enum mil_status factor_inverse(struct run *a, struct mil_error *err) {
    int k = (int)a->k, info = 1;
    double mu = 2e-6;
    for (int tries = 0; tries < 4 && info != 0; tries++, mu *= 8) {
        memcpy(a->inverse, a->gram, (size_t)k * (size_t)k * sizeof *a->gram);
        for (int64_t j = 0; j < a->k; j++) a->inverse[j + j * a->k] += (float)mu;
        info = LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', k, a->inverse, k);
    }
    return info == 0 ? MIL_OK : error_set(err, MIL_NUMERIC, "the Gram matrix is indefinite in f32");
}

static enum mil_status approximate(struct run *a, struct mil_error *err) {
    if (a->side > 0) TRY(factor_inverse(a, err));
    int64_t most = 6 * a->p / WIDTH * WIDTH;
    struct krylov_space s = {.k = a->k,
                             .b = WIDTH,
                             .p = a->p,
                             .max_dim = most,
                             .wanted = a->r,
                             .tolerance = 1e-5,
                             .guard_tolerance = 1e-3,
                             .op = a->side > 0 ? apply_inverse : apply_gram,
                             .ctx = a,
                             .v = a->v};
    return krylov_ritz(&s, err);
}

/* ---- step 3: the pairs that the space holds, exactly ---- */

/* The pairs stand in descending order, so the wanted ones come last at the bottom, first at the top,
 * and the guards are the others: `edge` is the last wanted, `beyond` the next guard, `outer` the
 * farthest, counted by index into the p pairs. */
struct places {
    int64_t wanted, guards; /* first of each */
    int64_t edge, outer;
    int64_t out; /* +1 or -1: from one guard to the next outwards */
};

static struct places places_of(const struct run *a) {
    int64_t g = a->p - a->r;
    if (a->side > 0) return (struct places){g, 0, g, 0, -1};
    return (struct places){0, a->r, a->r - 1, a->p - 1, 1};
}

static double lambda(const struct run *a, int64_t place) {
    return a->c * a->sigma[place] * a->sigma[place];
}

/* Norm of the part of C x_j outside of the space, in units of C. */
static double coupling(const struct run *a, int64_t place) {
    return a->c * a->sigma[place] * cblas_dnrm2((int)a->k, a->residual + place * a->k, 1);
}

static enum mil_status exact_pairs(struct run *a, struct mil_error *err) {
    int64_t n = a->k * a->p;
    for (int64_t i = 0; i < n; i++) a->x[i] = (double)a->v[i];
    struct refine f = {.w = a->w,
                       .p = a->p,
                       .x = a->x,
                       .y = a->y,
                       .sigma = a->sigma,
                       .scale = 1,
                       .target = INFINITY,
                       .residuals = a->residual};
    TRY(refine_pairs(&f, err));
    for (int64_t i = 0; i < n; i++) a->v[i] = (float)a->x[i];
    return MIL_OK;
}

/* ---- step 4 ---- */

static enum mil_status deflate(struct run *a, struct mil_error *err) {
    struct places at = places_of(a);
    double edge = lambda(a, at.edge), outer = lambda(a, at.outer);
    double first = a->side > 0 ? lambda(a, a->p - 1) : lambda(a, 0);
    double theta = edge + 0.25 * (outer - edge), near = a->side * (outer - theta);
    double top = a->c * a->sigma_max * a->sigma_max;
    if (!(near > 0)) return error_set(err, MIL_NUMERIC, "no gap behind the wanted values");
    a->deflated = (struct deflated){
        .w = a->w,
        .k = a->k,
        .p = a->p,
        .side = a->side,
        .c = a->c,
        .theta = theta,
        .tau = 2 * (near + fabs(theta - first)),
        .near = near,
        .far = a->side > 0 ? top : theta,
        .v = a->v,
        .factor = a->gram,
        .guards = a->p - a->r,
        .guard_x = a->x + at.guards * a->k,
        .guard_lambda = a->guard_lambda,
        .inner_steps = INNER_STEPS,
    };
    for (int64_t i = 0; i < a->p - a->r; i++) a->guard_lambda[i] = lambda(a, at.guards + i);
    return deflated_factor(&a->deflated, err);
}

/* ---- steps 5 and 6 ---- */

static enum mil_status polish(struct run *a, struct mil_error *err) {
    int64_t first = places_of(a).wanted;
    struct refine f = {.w = a->w,
                       .p = a->r,
                       .x = a->x + first * a->k,
                       .y = a->y + first * a->l,
                       .sigma = a->sigma + first,
                       .scale = a->sigma_max,
                       .target = TARGET,
                       .max_steps = NEWTON_STEPS,
                       .solve = deflated_solve,
                       .ctx = &a->deflated,
                       .started = true,
                       .residuals = a->residual + first * a->k};
    return refine_pairs(&f, err);
}

/* What is known of the guards before the wanted pairs move: see step 6 above.  *bound: x, where
 * exactly r eigenvalues lie beyond it; guards up to `tied` (a count) are not told from them. */
struct count {
    double bound;
    int64_t tied;
};

static bool separated(const struct run *a, struct places at, double h, int64_t tied,
                      double *bound) {
    int64_t g = a->p - a->r;
    if (tied >= g) return false;
    double inner = lambda(a, at.edge + at.out * tied),
           next = lambda(a, at.edge + at.out * (tied + 1));
    double x = 0.5 * (inner + next), sum = 0, room = a->side * (h - x);
    for (int64_t j = tied + 1; j <= g; j++) {
        double e = coupling(a, at.edge + at.out * j);
        sum += e * e / (a->side * (lambda(a, at.edge + at.out * j) - x));
    }
    *bound = x;
    return room > 0 && next != inner && sum < room;
}

static enum mil_status prove(const struct run *a, struct count *out, struct mil_error *err) {
    struct places at = places_of(a);
    double eta;
    TRY(deflated_error(&a->deflated, &eta, err));
    double h = a->deflated.theta - a->side * eta;
    for (out->tied = 0; out->tied <= a->p - a->r; out->tied++)
        if (separated(a, at, h, out->tied, &out->bound)) return MIL_OK;
    return error_set(err, MIL_NUMERIC, "the number of wanted values is not proven (error %.2g)",
                     eta);
}

/* How far a guard that is not told apart may lie inside the wanted range, over sigma_max. */
static double cut_of(const struct run *a, const struct count *count) {
    struct places at = places_of(a);
    double cut = 0, edge = a->sigma[at.edge];
    for (int64_t j = 1; j <= count->tied; j++) {
        int64_t place = at.edge + at.out * j;
        double reach = lambda(a, place) - a->side * coupling(a, place);
        double value = sqrt(fmax(reach, 0) / a->c);
        cut = fmax(cut, a->side * (edge - value) / a->sigma_max);
    }
    return cut;
}

/* ---- the method ---- */

/* The largest singular value, to 1e-6 or better. */
static enum mil_status find_sigma_max(struct run *a, struct mil_error *err) {
    double sum = 0;
    struct krylov_space s = {.k = a->k,
                             .b = 8,
                             .p = 1,
                             .max_dim = 96,
                             .wanted = 1,
                             .tolerance = 1e-3,
                             .guard_tolerance = 1,
                             .op = apply_gram,
                             .ctx = a,
                             .v = a->v};
    TRY(krylov_ritz(&s, err));
    for (int64_t i = 0; i < a->k; i++) a->x[i] = (double)a->v[i];
    TRY(matrix_apply(a->w, a->x, 1, a->y, err));
    for (int64_t i = 0; i < a->l; i++) sum += a->y[i] * a->y[i];
    a->sigma_max = sqrt(sum) / cblas_dnrm2((int)a->k, a->x, 1);
    return MIL_OK;
}

static void run_release(struct run *a) {
    mem_free(a->gram);
    mem_free(a->inverse);
    mem_free(a->v);
    mem_free(a->x);
    mem_free(a->y);
    mem_free(a->sigma);
    mem_free(a->residual);
    mem_free(a->guard_lambda);
}

static enum mil_status run_new(const struct svd_matrix *w, const int64_t *index, double frobenius,
                               int64_t r, struct run *a, struct mil_error *err) {
    *a = (struct run){.w = w, .k = short_side(w), .l = long_side(w), .r = r, .p = r + guards(r)};
    a->side = index[0] == 0 ? -1 : 1;
    a->c = (double)a->k / frobenius / frobenius;
    if (!(a->c > 0 && isfinite(a->c))) /* zero, or squares beyond f64 */
        return error_set(err, MIL_NUMERIC, "a matrix of norm %.2g has no scaled Gram matrix",
                         frobenius);
    size_t k = (size_t)a->k, p = (size_t)a->p;
    a->gram = mem_alloc(MEM_SCRATCH, k * k, sizeof *a->gram);
    if (a->side > 0) a->inverse = mem_alloc(MEM_SCRATCH, k * k, sizeof *a->inverse);
    a->v = mem_alloc(MEM_SCRATCH, k * p, sizeof *a->v);
    a->x = mem_alloc(MEM_SCRATCH, k * p, sizeof *a->x);
    a->y = mem_alloc(MEM_SCRATCH, (size_t)a->l * p, sizeof *a->y);
    a->sigma = mem_alloc(MEM_SCRATCH, p, sizeof *a->sigma);
    a->residual = mem_alloc(MEM_SCRATCH, k * p, sizeof *a->residual);
    a->guard_lambda = mem_alloc(MEM_SCRATCH, p, sizeof *a->guard_lambda);
    if (a->gram && (a->inverse || a->side < 0) && a->v && a->x && a->y && a->sigma && a->residual &&
        a->guard_lambda)
        return MIL_OK;
    run_release(a);
    return error_nomem(err, memory(w->m, w->n, r));
}

static enum mil_status run(const struct svd_matrix *w, const int64_t *index, double frobenius,
                           struct svd_result *out, struct mil_error *err) {
    struct run a;
    struct count count = {0, 0};
    TRY(run_new(w, index, frobenius, out->rank, &a, err));
    enum mil_status st;
    TRY_GOTO(gram_f32(w, a.c, a.gram, err));
    TRY_GOTO(find_sigma_max(&a, err));
    TRY_GOTO(approximate(&a, err));
    mem_free(a.inverse);
    a.inverse = NULL;
    TRY_GOTO(exact_pairs(&a, err));
    TRY_GOTO(deflate(&a, err));
    TRY_GOTO(prove(&a, &count, err));
    TRY_GOTO(polish(&a, err));
    struct places at = places_of(&a);
    if (count.tied == 0 && a.side * (lambda(&a, at.edge) - count.bound) >= 0)
        TRY_GOTO(error_set(err, MIL_NUMERIC, "a wanted value left its proven range"));
    out->sigma_max = a.side > 0 ? a.sigma_max : a.sigma[0];
    out->cut = cut_of(&a, &count);
    result_from_pairs(a.x + at.wanted * a.k, a.y + at.wanted * a.l, a.sigma + at.wanted, out);
fail:
    run_release(&a);
    return st;
}

/* Residuals of a sound result are a few eps; 1e-12 tells a failed refinement. */
const struct svd_method method_krylov = {"krylov", suits, run, memory, 1e-12};
