/* SPDX-License-Identifier: Apache-2.0 */
/* slice.c - method "slice": r contiguous triplets from the interior of the spectrum.
 *
 *   1. G = H^T H in f32 (gram_f32.c).
 *   2. Where is the index?  Block Lanczos on G gives sigma_max and, as a block Gauss quadrature, the
 *      number of eigenvalues below x, to about ten; the inertia of G - mu I (slice_ldlt.c) then
 *      counts exactly, and a second shift corrects the first where it missed the window.
 *   3. Block Lanczos on (G - mu I)^-1: the window and some eigenvectors beyond either side.
 *   4. Newton's method in f64 on the window (refine.c), with the factorisation as solver.
 *   5. Proof: the inertia at a and b, in wide gaps on either side, with the measured errors e_a, e_b
 *      of the factorisations (slice_proof.c).  If count(a) = i, count(b) = i + p and p orthonormal
 *      eigenvectors have their eigenvalues within (a + e_a, b - e_b), then by Weyl's theorem
 *          i + p <= #(< b - e_b) <= count(b) = i + p,
 *      so the p are exactly the eigenvalues i .. i + p - 1, counted from below.
 *
 * Whatever does not come true - a count, a convergence, the proof - is MIL_NUMERIC and the chain
 * goes on.  Clusters wider than the guards and graded spectra, whose middle lies below the rounding
 * errors of f32, end so.  G takes 4 k^2 bytes, its factorisation as many. */
#include "linalg/slice.h"

#include <math.h>
#include <string.h>

#include "core/log.h"
#include "core/mem.h"
#include "core/threads.h"
#include "linalg/krylov.h" /* gram_f32 */
#include "linalg/slice_locate.h"

enum {
    LEAST = 1024, /* k: below, LAPACK and the tridiagonal methods are as fast */
    MARGIN = 16,  /* of indices between the window and the ends */
    SLACK = 6,    /* a cut may lie this many eigenvalues outside of the window */
    BLOCK = 16,
};

/* The least spacing of eigenvalues that counts in f32 can resolve: their errors are some 1e-5 of the
 * mean eigenvalue at best, and an ulp of the largest one. */
static double resolution(double largest) {
    return fmax(1e-5, 0x1p-24 * largest);
}

/* One run.  Eigenvalues are those of G = s^2 H^T H, indices count from below. */
struct slice {
    const struct svd_matrix *w;
    int64_t k, low, high; /* the window [low, high) */
    double s, mu, spacing;
    int64_t below; /* eigenvalues below mu */
    float *g;
    struct ldlt f, second;
    struct lanczos basis;
    int64_t first, n; /* known eigenvectors: indices [first, first + n) */
    float *z;         /* [k, n] */
    double *value;    /* [n] ascending */
    int64_t own, p;   /* refined: known ones [own, own + p) */
    double cut[2];
    double *x, *y, *sigma;
};

/* Indices beyond the window, on either side, whose eigenvectors are computed too. */
static int64_t guards(int64_t r) {
    return 16 + r / 8;
}

/* Dimension of the Krylov space that gives `side` eigenvectors on either side of mu: it took 5.5 to 6.5
 * a vector and some blocks to begin with. */
static int64_t dims_at_most(int64_t side) {
    return 9 * side + 8 * BLOCK;
}

static void slice_release(struct slice *c) {
    mem_free(c->g);
    ldlt_release(&c->f);
    ldlt_release(&c->second);
    lanczos_release(&c->basis);
    mem_free(c->z);
    mem_free(c->value);
    mem_free(c->x);
    mem_free(c->y);
    mem_free(c->sigma);
}

/* ---- 3: the Krylov space of the inverse ---- */

static void apply_inverse(const void *ctx, const float *x, float *y, int64_t p) {
    const struct ldlt *f = ctx;
    memcpy(y, x, (size_t)(f->k * p) * sizeof *y);
    ldlt_solve(f, y, p);
}

/* The Ritz value i has an eigenvector to about a per cent: its residual, in G's terms, is small
 * against the spacing of eigenvalues. */
static bool converged(const struct slice *c, int64_t i) {
    double theta = (double)c->basis.value[i];
    return (double)c->basis.leak[i] <= 0.01 * c->spacing * theta * theta;
}

/* Converged eigenvalues next to mu: below it (Ritz values 0, 1, ...), above it (last, ...). */
static void count_converged(const struct slice *c, int64_t *under, int64_t *over) {
    const struct lanczos *b = &c->basis;
    *under = *over = 0;
    while (*under < b->dim && b->value[*under] < 0 && converged(c, *under)) ++*under;
    while (*over < b->dim && b->value[b->dim - 1 - *over] > 0 && converged(c, b->dim - 1 - *over))
        ++*over;
}

/* A shift that all but hits an eigenvalue drowns all other eigenvectors in the rounding errors of
 * that one.  A few blocks tell; mu then moves half way to its neighbour on the other side. */
static enum mil_status start(struct slice *c, struct mil_error *err) {
    struct lanczos *b = &c->basis;
    TRY(lanczos_start(b, err));
    TRY(lanczos_extend(b, 6 * BLOCK, err));
    TRY(lanczos_ritz(b, err));
    double under = 1 / (double)b->value[0], over = 1 / (double)b->value[b->dim - 1];
    if (!(under < 0 && over > 0) || fmin(-under, over) > 0.05 * c->spacing) return MIL_OK;
    c->mu = (double)(float)(c->mu + fmax(fmin((under + over) / 2, c->spacing), -c->spacing));
    log_debug("slice: an eigenvalue lies %.2g spacings from the shift, moved to %.6g",
              fmin(-under, over) / c->spacing, c->mu);
    TRY(ldlt_factor(&c->f, c->g, (float)c->mu, &c->below, err));
    return lanczos_start(b, err);
}

/* Both sides reach equally far: the solver needs the nearest unknown eigenvalue to be farther from
 * mu than the window's ends are. */
static enum mil_status find_space(struct slice *c, struct mil_error *err) {
    int64_t under = 0, over = 0, reach = c->below - c->low;
    if (c->high - c->below > reach) reach = c->high - c->below;
    int64_t side = reach + guards(c->high - c->low), cap = dims_at_most(side);
    int64_t least_under = side < c->below ? side : c->below;
    int64_t least_over = side < c->k - c->below ? side : c->k - c->below;
    if (cap > c->k / 2) cap = c->k / 2;
    TRY(lanczos_new(c->k, BLOCK, cap, apply_inverse, &c->f, &c->basis, err));
    TRY(start(c, err));
    for (int64_t dims = 11 * side / 2 + 3 * BLOCK; dims <= cap; dims += side / 2 + 8) {
        TRY(lanczos_extend(&c->basis, dims, err));
        TRY(lanczos_ritz(&c->basis, err));
        count_converged(c, &under, &over);
        log_debug("slice: dimension %lld, %lld below and %lld above converged, %lld wanted",
                  (long long)c->basis.dim, (long long)under, (long long)over, (long long)side);
        if (under < least_under || over < least_over) continue;
        c->first = c->below - under;
        c->n = under + over;
        return MIL_OK;
    }
    return error_set(err, MIL_NUMERIC,
                     "the Krylov space of dimension %lld holds %lld and %lld of %lld eigenvectors "
                     "on each side",
                     (long long)c->basis.dim, (long long)under, (long long)over, (long long)side);
}

/* Known eigenvectors by ascending eigenvalue: mu + 1/theta turns the order of the Ritz values
 * around on either side of mu. */
static enum mil_status gather(struct slice *c, struct mil_error *err) {
    const struct lanczos *b = &c->basis;
    int64_t under = c->below - c->first, over = c->n - under;
    float *turned = mem_alloc(MEM_SCRATCH, (size_t)(c->k * c->n), sizeof *turned);
    c->z = mem_alloc(MEM_SCRATCH, (size_t)(c->k * c->n), sizeof *c->z);
    c->value = mem_alloc(MEM_SCRATCH, (size_t)c->n, sizeof *c->value);
    if (!turned || !c->z || !c->value) {
        mem_free(turned);
        return error_nomem(err, (uint64_t)(2 * c->k * c->n) * sizeof *turned);
    }
    lanczos_vectors(b, 0, under, turned);
    lanczos_vectors(b, b->dim - over, over, turned + under * c->k);
    for (int64_t i = 0; i < c->n; i++) {
        int64_t from = i < under ? under - 1 - i : under + c->n - 1 - i;
        int64_t ritz = from < under ? from : b->dim - c->n + from;
        memcpy(c->z + i * c->k, turned + from * c->k, (size_t)c->k * sizeof *turned);
        c->value[i] = c->mu + 1 / (double)b->value[ritz];
    }
    mem_free(turned);
    return MIL_OK;
}

/* ---- 4: the window in f64 ---- */

/* The widest gap among those in front of known eigenvalues from .. to.  The cut goes into its outer
 * third: the proof wants the window far from it, and the eigenvalue outside only not beyond it. */
static int64_t widest_gap(const struct slice *c, int64_t from, int64_t to, double inner,
                          double *cut) {
    int64_t best = from;
    for (int64_t i = from; i <= to; i++)
        if (c->value[i] - c->value[i - 1] > c->value[best] - c->value[best - 1]) best = i;
    *cut = inner * c->value[best] + (1 - inner) * c->value[best - 1];
    return best;
}

static enum mil_status refine_window(struct slice *c, double scale, struct mil_error *err) {
    int64_t low = c->low - c->first, high = c->high - c->first, l = long_side(c->w), p;
    c->own = widest_gap(c, low - SLACK, low, 0.3, &c->cut[0]);
    c->p = p = widest_gap(c, high, high + SLACK, 0.7, &c->cut[1]) - c->own;
    c->x = mem_alloc(MEM_SCRATCH, (size_t)(c->k * p), sizeof *c->x);
    c->y = mem_alloc(MEM_SCRATCH, (size_t)(l * p), sizeof *c->y);
    c->sigma = mem_alloc(MEM_SCRATCH, (size_t)p, sizeof *c->sigma);
    if (!c->x || !c->y || !c->sigma)
        return error_nomem(err, (uint64_t)((c->k + l) * p) * sizeof *c->x);
    for (int64_t i = 0; i < c->k * p; i++) c->x[i] = (double)c->z[c->own * c->k + i];
    double under = c->mu - c->value[0], over = c->value[c->n - 1] - c->mu;
    struct slice_solver solver = {&c->f,  c->mu, c->s * c->s,      c->z, c->value, c->n,
                                  c->own, p,     fmin(under, over)};
    struct refine f = {.w = c->w,
                       .p = p,
                       .x = c->x,
                       .y = c->y,
                       .sigma = c->sigma,
                       .scale = scale,
                       .target = 4e-13,
                       .max_steps = 12,
                       .solve = slice_solve,
                       .ctx = &solver};
    TRY(refine_pairs(&f, err));
    log_debug("slice: %lld pairs, residual %.1e after %d steps", (long long)p, f.residual, f.steps);
    if (f.residual <= 1e-11) return MIL_OK; /* all count in the proof, not only those handed out */
    return error_set(err, MIL_NUMERIC, "refining %lld triplets stopped at a residual of %.2g",
                     (long long)p, f.residual);
}

/* ---- 5: the proof ---- */

static enum mil_status check_count(const struct slice *c, int64_t got, int64_t want, double at,
                                   struct mil_error *err) {
    if (got == want) return MIL_OK;
    return error_set(err, MIL_NUMERIC,
                     "%lld eigenvalues lie below %.9g of the scaled Gram matrix, %lld were found "
                     "(%lld x %lld)",
                     (long long)got, at, (long long)want, (long long)c->w->m, (long long)c->w->n);
}

static enum mil_status prove(struct slice *c, struct mil_error *err) {
    int64_t count[2], first = c->first + c->own;
    double shift[2] = {(double)(float)c->cut[0], (double)(float)c->cut[1]}, wanted[2], bound[2];
    TRY(ldlt_factor(&c->f, c->g, (float)shift[0], &count[0], err));
    TRY(check_count(c, count[0], first, shift[0], err));
    TRY(ldlt_new_in(c->k, &c->g, &c->second, err));
    TRY(ldlt_factor(&c->second, c->second.a, (float)shift[1], &count[1], err));
    TRY(check_count(c, count[1], first + c->p, shift[1], err));
    double largest = c->sigma[0], smallest = c->sigma[0], s2 = c->s * c->s;
    for (int64_t t = 0; t < c->p; t++) {
        largest = fmax(largest, c->sigma[t]);
        smallest = fmin(smallest, c->sigma[t]);
    }
    wanted[0] = 0.99 * (smallest * smallest * s2 - shift[0]);
    wanted[1] = 0.99 * (shift[1] - largest * largest * s2);
    const struct ldlt *factors[2] = {&c->f, &c->second};
    TRY(slice_bounds(c->w, c->s, factors, shift, wanted, bound, err));
    log_debug("slice: errors of the counts %.1e, %.1e; distances %.1e, %.1e", bound[0], bound[1],
              wanted[0], wanted[1]);
    if (bound[0] <= wanted[0] && bound[1] <= wanted[1]) return MIL_OK;
    return error_set(err, MIL_NUMERIC,
                     "the counts are exact to %.2g and %.2g only, the window's edges are %.2g and "
                     "%.2g away",
                     bound[0], bound[1], wanted[0], wanted[1]);
}

/* ---- the method ---- */

/* The asked triplets of the refined ones, which descend from index first + p - 1 down. */
static void hand_out(const struct slice *c, struct svd_result *out) {
    int64_t skip = c->first + c->own + c->p - c->high;
    result_from_pairs(c->x + skip * c->k, c->y + skip * long_side(c->w), c->sigma + skip, out);
    out->cut = 0;
}

static enum mil_status slice_steps(struct slice *c, struct svd_result *out, struct mil_error *err) {
    double clock[6] = {clock_seconds()}, top;
    c->g = mem_alloc(MEM_SCRATCH, (size_t)(c->k * c->k), sizeof *c->g);
    if (!c->g) return error_nomem(err, (uint64_t)(c->k * c->k) * sizeof *c->g);
    TRY(gram_f32(c->w, c->s * c->s, c->g, err));
    clock[1] = clock_seconds();
    TRY(ldlt_new(c->k, &c->f, err));
    struct locate where = {.g = c->g, .k = c->k, .low = c->low, .high = c->high};
    TRY(slice_locate(&where, &c->f, err));
    c->mu = where.mu;
    c->below = where.below;
    c->spacing = where.spacing;
    if (!(c->spacing > resolution(where.largest)))
        return error_set(err, MIL_NUMERIC,
                         "eigenvalues %.2g of the mean one apart, the largest %.2g times the mean: "
                         "f32 does not tell them from each other",
                         c->spacing, where.largest);
    top = sqrt(where.largest) / c->s;
    clock[2] = clock_seconds();
    TRY(find_space(c, err));
    TRY(gather(c, err));
    lanczos_release(&c->basis);
    clock[3] = clock_seconds();
    TRY(refine_window(c, top, err));
    clock[4] = clock_seconds();
    TRY(prove(c, err));
    hand_out(c, out);
    out->sigma_max = top;
    clock[5] = clock_seconds();
    log_debug("slice: Gram %.2f s, location %.2f s, Krylov %.2f s, refinement %.2f s, proof %.2f s",
              clock[1] - clock[0], clock[2] - clock[1], clock[3] - clock[2], clock[4] - clock[3],
              clock[5] - clock[4]);
    return MIL_OK;
}

static bool suits(const struct svd_matrix *w, const int64_t *index, int64_t rank) {
    int64_t k = short_side(w);
    return w->dtype != DT_F64 && k >= LEAST && long_side(w) < (1 << 30) && rank <= k / 16 &&
           index[rank - 1] - index[0] == rank - 1 && index[0] >= MARGIN + guards(rank) &&
           index[rank - 1] < k - MARGIN - guards(rank);
}

static enum mil_status run(const struct svd_matrix *w, const int64_t *index, double frobenius,
                           struct svd_result *out, struct mil_error *err) {
    int64_t k = short_side(w);
    if (!suits(w, index, out->rank))
        return error_set(err, MIL_NUMERIC,
                         "slice takes contiguous triplets from the interior of a 16-bit or f32 "
                         "matrix of %d rows and columns or more",
                         (int)LEAST);
    if (!(frobenius > 0)) return error_set(err, MIL_NUMERIC, "slice: the matrix is zero");
    struct slice c = {.w = w, .k = k, .low = k - 1 - index[out->rank - 1], .high = k - index[0]};
    int exponent;
    frexp(sqrt((double)k) / frobenius, &exponent);
    c.s = ldexp(1.0, exponent - 1);
    enum mil_status st = slice_steps(&c, out, err);
    slice_release(&c);
    return st;
}

static size_t memory(int64_t m, int64_t n, int64_t rank) {
    int64_t k = m < n ? m : n, p = rank + 2 * SLACK, side = rank / 2 + rank / 4 + 20 + guards(rank);
    size_t krylov = lanczos_memory(k, BLOCK, dims_at_most(side));
    size_t pairs = (size_t)((m + n) * (p + rank) + k * side) * sizeof(double);
    size_t refine = (size_t)((m + n + 3 * k) * p) * sizeof(double);
    size_t panels = (size_t)1 << 25; /* of the products with the weight and of oneDNN */
    size_t proof = ldlt_memory(k) - (size_t)(k * k) * sizeof(float);
    size_t beside = krylov > refine ? krylov : refine;
    return ldlt_memory(k) + (size_t)(k * k) * sizeof(float) + pairs + panels +
           (beside > proof ? beside : proof);
}

/* Newton's method ends at some eps sigma_max; 1e-12 is the product's promise. */
const struct svd_method method_slice = {"slice", suits, run, memory, 1e-12};
