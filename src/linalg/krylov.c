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
 * 6. Proof.  In the basis [V, V'] of the space's p = r + guards vectors and the rest, c G is
 *    [[Lambda, E^T], [E, H]] (turned by side).  The factor L of step 4 has H - theta = L L^T - D on V',
 *    ||D|| <= eta (deflated_error), so H - x >= L L^T there for every x <= theta - eta.  c G - x has as
 *    many negative eigenvalues as Lambda - x - E^T (H - x)^-1 E; that has at least the r of the wanted
 *    Ritz values below x, and no more if it is positive definite on the guards, for which
 *        sum over guards j of  e_j^T (L L^T)^-1 e_j / (lambda_j - x)  <  1
 *    suffices.  Then exactly r eigenvalues lie beyond x, and they are the ones found.
 *    (V in the factor is X rounded to f32: that adds tau eps^2, far below eta.)
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
    double c, sigma_max; /* sigma_max: an estimate, good to 1e-6 */
    double mu;
    float *gram;           /* [k, k]: C, then the deflated factor */
    float *other;          /* [k, k]: a copy, where C is needed beside a factor */
    struct triangle below; /* bottom: the factor of C + mu I */
    float *spare;
    float *v;              /* [k, p] */
    double *x, *y, *sigma; /* pairs [k, p], [l, p], [p], descending */
    double *residual;      /* [k, p]: H^T y - s x */
    struct deflated deflated;
};

static int64_t guards(int64_t r) {
    return r / 2 > 24 ? r / 2 : 24;
}

/* The request is one end, and a space for it fits. */
static bool applies(const struct svd_matrix *w, const int64_t *index, int64_t rank) {
    int64_t k = short_side(w);
    bool together = index[rank - 1] - index[0] == rank - 1;
    return together && (index[0] == 0 || index[rank - 1] == k - 1) &&
           8 * (rank + guards(rank)) <= k;
}

/* Below SMALLEST the tridiagonal form costs less. */
static bool suits(const struct svd_matrix *w, const int64_t *index, int64_t rank) {
    return short_side(w) >= SMALLEST && applies(w, index, rank);
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
    memcpy(z, x, (size_t)(a->k * b) * sizeof *z);
    triangle_solve(&a->below, z, b, a->spare);
}

static void apply_gram(void *ctx, const float *x, float *z, int64_t b) {
    const struct run *a = ctx;
    int k = (int)a->k;
    cblas_ssymm(CblasColMajor, CblasLeft, CblasLower, k, (int)b, 1.0f, a->gram, k, x, k, 0.0f, z,
                k);
}

/* The factor of C + mu I with the smallest mu that f32 bears; `other` is done with then. */
static enum mil_status factor_below(struct run *a, struct mil_error *err) {
    int k = (int)a->k, info = 1;
    a->mu = 2e-6 / 8;
    for (int tries = 0; tries < 4 && info != 0; tries++) {
        a->mu *= 8;
        memcpy(a->other, a->gram, (size_t)k * (size_t)k * sizeof *a->gram);
        for (int64_t j = 0; j < a->k; j++) a->other[j + j * a->k] += (float)a->mu;
        info = LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', k, a->other, k);
    }
    if (info != 0) return error_set(err, MIL_NUMERIC, "the Gram matrix is indefinite in f32");
    TRY(triangle_init(&a->below, a->other, a->k, err));
    mem_free(a->other);
    a->other = NULL;
    a->spare = mem_alloc(MEM_SCRATCH, triangle_spare(&a->below, WIDTH), sizeof *a->spare);
    return a->spare ? MIL_OK : error_nomem(err, triangle_spare(&a->below, WIDTH));
}

static enum mil_status approximate(struct run *a, struct mil_error *err) {
    if (a->side > 0) TRY(factor_below(a, err));
    int64_t most = 8 * a->p < a->k ? 8 * a->p / WIDTH * WIDTH : a->k / WIDTH * WIDTH;
    struct krylov_space s = {.k = a->k,
                             .b = WIDTH,
                             .p = a->p,
                             .max_dim = most,
                             .wanted = a->r,
                             .enough = a->p - (a->p - a->r) / 4,
                             .tolerance = 1e-5,
                             .guard_tolerance = 1e-3,
                             .op = a->side > 0 ? apply_inverse : apply_gram,
                             .ctx = a,
                             .v = a->v};
    TRY(krylov_ritz(&s, err));
    a->p = s.found; /* they stand first in v */
    return a->p >= a->r + 8
               ? MIL_OK
               : error_set(err, MIL_NUMERIC, "the Krylov space holds %lld of %lld wanted values",
                           (long long)a->p, (long long)a->r);
}

/* ---- step 3: the pairs that the space holds, exactly ---- */

/* The pairs stand in descending order, so the wanted ones come last at the bottom, first at the top,
 * and the guards are the others. */
struct places {
    int64_t wanted, guards; /* first of each */
    int64_t edge, outer;    /* the wanted one next to the guards, the guard farthest from it */
    int64_t out;            /* +1 or -1: from one guard to the next outwards */
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
    if (!(near > 0)) return error_set(err, MIL_NUMERIC, "no gap behind the wanted values");
    a->deflated = (struct deflated){
        .w = a->w,
        .k = a->k,
        .p = a->p,
        .side = a->side,
        .c = a->c,
        .theta = theta,
        .tau = 2 * (near + fabs(theta - first)),
        .outer = outer,
        .top = a->c * a->sigma_max * a->sigma_max,
        .v = a->v,
        .factor = a->gram,
        .below = a->side > 0 ? &a->below : NULL,
        .gram = a->other,
        .mu = a->mu,
        .guards = a->p - a->r,
        .guard_x = a->x + at.guards * a->k,
        .guard_sigma = a->sigma + at.guards,
        .guard_residual = a->residual + at.guards * a->k,
        .inner_steps = INNER_STEPS,
    };
    if (a->side < 0) memcpy(a->other, a->gram, (size_t)(a->k * a->k) * sizeof *a->gram);
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

/* Exactly r eigenvalues lie beyond x = bound but for `tied` guards that are not told from them. */
struct count {
    double bound;
    int64_t tied;
};

/* m_j = e_j^T (L L^T)^-1 e_j of the guards, from the inside out, with room for rounding in f32. */
static enum mil_status measure_guards(const struct run *a, double *m, struct mil_error *err) {
    struct places at = places_of(a);
    int64_t g = a->p - a->r, k = a->k;
    const struct triangle *t = &a->deflated.packed;
    float *z = mem_alloc(MEM_SCRATCH, (size_t)(k * g) + triangle_spare(t, g), sizeof *z);
    if (!z) return error_nomem(err, (uint64_t)(k * g) * sizeof *z);
    for (int64_t j = 0; j < g; j++) {
        const double *e = a->residual + (at.edge + at.out * (j + 1)) * k;
        double norm = cblas_dnrm2((int)k, e, 1), by = norm > 0 ? 1 / norm : 0;
        for (int64_t i = 0; i < k; i++) z[i + j * k] = (float)(by * e[i]);
    }
    triangle_solve(t, z, g, z + k * g);
    for (int64_t j = 0; j < g; j++) {
        int64_t place = at.edge + at.out * (j + 1);
        const double *e = a->residual + place * k;
        double norm = cblas_dnrm2((int)k, e, 1), dot = 0;
        for (int64_t i = 0; i < k; i++) dot += e[i] * (double)z[i + j * k];
        m[j] = 2 * a->c * lambda(a, place) * norm * fmax(dot, 0);
    }
    mem_free(z);
    return MIL_OK;
}

/* The sum of step 6 for a bound between guards `tied` and `tied` + 1. */
static bool separated(const struct run *a, double h, const double *m, int64_t tied, double *bound) {
    struct places at = places_of(a);
    double inner = lambda(a, at.edge + at.out * tied),
           next = lambda(a, at.edge + at.out * (tied + 1)), x = 0.5 * (inner + next), sum = 0;
    for (int64_t j = tied; j < a->p - a->r; j++)
        sum += m[j] / (a->side * (lambda(a, at.edge + at.out * (j + 1)) - x));
    *bound = x;
    return a->side * (next - inner) > 0 && a->side * (h - x) >= 0 && sum < 1;
}

static enum mil_status prove(const struct run *a, double eta, struct count *out,
                             struct mil_error *err) {
    double h = a->deflated.theta - a->side * eta;
    double *m = mem_alloc(MEM_SCRATCH, (size_t)(a->p - a->r), sizeof *m);
    if (!m) return error_nomem(err, (uint64_t)a->p * sizeof *m);
    enum mil_status st = measure_guards(a, m, err);
    bool proven = false;
    for (out->tied = 0; st == MIL_OK && !proven && out->tied < a->p - a->r; out->tied++)
        proven = separated(a, h, m, out->tied, &out->bound);
    out->tied--;
    if (st == MIL_OK && !proven)
        st = error_set(err, MIL_NUMERIC, "the number of wanted values is not proven (error %.2g)",
                       eta);
    mem_free(m);
    return st;
}

/* The factor's error, then the factor in its own form, which frees the square. */
static enum mil_status pack(struct run *a, double *eta, struct mil_error *err) {
    TRY(deflated_error(&a->deflated, eta, err));
    TRY(triangle_init(&a->deflated.packed, a->gram, a->k, err));
    mem_free(a->gram);
    a->gram = NULL;
    return MIL_OK;
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
                             .max_dim = 256 < a->k / 2 ? 256 : a->k / 2 / 8 * 8,
                             .wanted = 1,
                             .enough = 1,
                             .tolerance = 3e-5,
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
    mem_free(a->other);
    mem_free(a->spare);
    triangle_release(&a->below);
    triangle_release(&a->deflated.packed);
    mem_free(a->v);
    mem_free(a->x);
    mem_free(a->y);
    mem_free(a->sigma);
    mem_free(a->residual);
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
    a->other = mem_alloc(MEM_SCRATCH, k * k, sizeof *a->other);
    a->v = mem_alloc(MEM_SCRATCH, k * p, sizeof *a->v);
    a->x = mem_alloc(MEM_SCRATCH, k * p, sizeof *a->x);
    a->y = mem_alloc(MEM_SCRATCH, (size_t)a->l * p, sizeof *a->y);
    a->sigma = mem_alloc(MEM_SCRATCH, p, sizeof *a->sigma);
    a->residual = mem_alloc(MEM_SCRATCH, k * p, sizeof *a->residual);
    if (a->gram && a->other && a->v && a->x && a->y && a->sigma && a->residual) return MIL_OK;
    run_release(a);
    return error_nomem(err, memory(w->m, w->n, r));
}

static enum mil_status run(const struct svd_matrix *w, const int64_t *index, double frobenius,
                           struct svd_result *out, struct mil_error *err) {
    if (!applies(w, index, out->rank))
        return error_set(err, MIL_NUMERIC,
                         "%lld triplets of a %lld x %lld matrix: not for a Krylov space",
                         (long long)out->rank, (long long)w->m, (long long)w->n);
    struct run a;
    struct count count = {0, 0};
    double eta;
    TRY(run_new(w, index, frobenius, out->rank, &a, err));
    enum mil_status st;
    TRY_GOTO(gram_f32(w, a.c, a.gram, err));
    TRY_GOTO(find_sigma_max(&a, err));
    TRY_GOTO(approximate(&a, err));
    TRY_GOTO(exact_pairs(&a, err));
    TRY_GOTO(deflate(&a, err));
    TRY_GOTO(pack(&a, &eta, err));
    TRY_GOTO(prove(&a, eta, &count, err));
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
