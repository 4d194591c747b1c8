/* SPDX-License-Identifier: Apache-2.0 */
/* judge.h - is this partial SVD true?  A result of svd_compute against LAPACK's full decomposition
 * (called from here, on values widened here) and against W itself, in loops that add in long
 * double.  Nothing of src/linalg but its result takes part.
 *
 * Everything is scaled by a power of two so that the largest entry of W lies in [1/2, 1): then
 * neither squares of 1e150 nor of 1e-170 leave the range.
 *
 * For triplet (s, u, v) with residuals R = W v - s u, Q = W^T u - s v, and the reference's (s_j,
 * u_j, v_j) with W V - U S and W^T U - V S of norm at most e, let a = u_j^T u, b = v_j^T v.  Then
 *     s_j b - s a = u_j^T R - (W^T u_j - s_j v_j)^T v = p,    s_j a - s b = q (likewise)
 *     a = (s_j q + s p) / (s_j^2 - s^2),   b = (s_j p + s q) / (s_j^2 - s^2)
 * and by Cauchy-Schwarz |a|, |b| <= hypot(p, q) / |s_j - s|.  Summed over all j outside a set C,
 *     || part of u (of v) along the u_j (v_j), j not in C ||
 *         <= (hypot(|R|, |Q|) + sqrt(2) e) / gap,   gap = min over j not in C of |s_j - s|:
 * Wedin's bound, with the constant 1 and for any set.  It is checked with C = the one index asked
 * for, C = all of them, and C = the cluster around the index, values linked by steps below 1e-8
 * s_0: where a cluster straddles the cut, that is what remains determined.  On the long side (l >
 * k) the part orthogonal to all u_j is at most (|R| + e) / s. */
#ifndef MIL_TESTS_LINALG_JUDGE_H
#define MIL_TESTS_LINALG_JUDGE_H

#include <cblas.h>
#include <float.h>
#include <lapacke.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/svd.h"

struct reference {
    int64_t m, n, k;
    double scale;      /* power of two */
    double *a;         /* [m, n], scale * W */
    double *s, *u, *v; /* [k]; rows: u [k, m], v [k, n]; of scale * W */
    double error;      /* e above */
};

/* The largest figures seen so far, relative to sigma_max. */
struct figures {
    double sigma, residual, orthogonality, cut;
    double sine;     /* of the asked space, where the bound promises 1e-8 */
    double of_bound; /* sine over its bound, any set */
    double smallest; /* smallest relative gap at the cut */
};

/* The larger; NaN if either is. */
static inline double worse(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

static inline double *reals(int64_t n) {
    double *x = mem_calloc(MEM_OTHER, (size_t)(n > 0 ? n : 1), sizeof *x);
    REQUIRE(x);
    return x;
}

static inline double judge_value(const struct svd_matrix *w, int64_t i) {
    if (w->dtype == DT_BF16) return (double)bf16_to_f32(((const bf16 *)w->data)[i]);
    if (w->dtype == DT_F16) return (double)f16_to_f32(((const f16 *)w->data)[i]);
    if (w->dtype == DT_F32) return (double)((const float *)w->data)[i];
    return ((const double *)w->data)[i];
}

/* || H X - Y S ||_F with H = A (transposed: false) or A^T. */
static inline double reference_residual(const struct reference *f, bool transposed) {
    int64_t rows = transposed ? f->n : f->m, cols = transposed ? f->m : f->n;
    const double *x = transposed ? f->u : f->v, *y = transposed ? f->v : f->u;
    double *p = reals(f->k * rows), sum = 0;
    /* by rows: p [k, rows] = x [k, cols] H^T */
    cblas_dgemm(CblasRowMajor, CblasNoTrans, transposed ? CblasNoTrans : CblasTrans, (int)f->k,
                (int)rows, (int)cols, 1.0, x, (int)cols, f->a, (int)f->n, 0.0, p, (int)rows);
    for (int64_t t = 0; t < f->k; t++)
        for (int64_t i = 0; i < rows; i++) {
            double e = p[t * rows + i] - f->s[t] * y[t * rows + i];
            sum += e * e;
        }
    mem_free(p);
    return sqrt(sum);
}

static inline void reference_scale(struct reference *f, const struct svd_matrix *w) {
    double top = 0;
    int exponent = 0;
    f->a = reals(f->m * f->n);
    for (int64_t i = 0; i < f->m * f->n; i++) top = fmax(top, fabs(judge_value(w, i)));
    if (top > 0) frexp(top, &exponent);
    f->scale = ldexp(1.0, -exponent < 1000 ? -exponent : 1000);
    for (int64_t i = 0; i < f->m * f->n; i++) f->a[i] = f->scale * judge_value(w, i);
}

/* By columns A is A^T [n, m] = V S U^T: dgesdd's left factor holds the v_j, its right one, [k, m],
 * the u_j interleaved. */
static inline void reference_init(struct reference *f, const struct svd_matrix *w) {
    *f = (struct reference){.m = w->m, .n = w->n, .k = w->m < w->n ? w->m : w->n};
    reference_scale(f, w);
    double *copy = reals(f->m * f->n), *ut = reals(f->k * f->m);
    memcpy(copy, f->a, (size_t)(f->m * f->n) * sizeof *copy);
    f->s = reals(f->k);
    f->u = reals(f->k * f->m);
    f->v = reals(f->k * f->n);
    REQUIRE(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', (int)f->n, (int)f->m, copy, (int)f->n, f->s, f->v,
                           (int)f->n, ut, (int)f->k) == 0);
    for (int64_t i = 0; i < f->m; i++)
        for (int64_t j = 0; j < f->k; j++) f->u[j * f->m + i] = ut[i * f->k + j];
    f->error = fmax(reference_residual(f, false), reference_residual(f, true));
    mem_free(ut);
    mem_free(copy);
}

static inline void reference_release(struct reference *f) {
    mem_free(f->a);
    mem_free(f->s);
    mem_free(f->u);
    mem_free(f->v);
    memset(f, 0, sizeof *f);
}

/* ---- one judgement ---- */

struct judge {
    const struct reference *f;
    const struct svd_result *r;
    const int64_t *index;
    struct figures *worst;
    double unit;                 /* s_0, 1 for a zero matrix */
    double *sigma;               /* [r], scaled */
    double *right, *left;        /* [r]: |R|, |Q| */
    double *cu, *cv;             /* [r, k]: a, b above */
    double *beyond_u, *beyond_v; /* [r]: parts orthogonal to all u_j, v_j */
    char *text;
    size_t cap;
};

#define JUDGE(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) return snprintf(j->text, j->cap, __VA_ARGS__) >= 0;                      \
    } while (0)

static inline void judge_residuals(struct judge *j) {
    const struct reference *f = j->f;
    long double *back = mem_alloc(MEM_OTHER, (size_t)f->n, sizeof *back);
    REQUIRE(back);
    for (int64_t t = 0; t < j->r->rank; t++) {
        const double *u = j->r->u + t * f->m, *v = j->r->v + t * f->n;
        long double s = j->sigma[t], right = 0, left = 0;
        for (int64_t i = 0; i < f->n; i++) back[i] = -s * (long double)v[i];
        for (int64_t i = 0; i < f->m; i++) {
            const double *row = f->a + i * f->n;
            long double sum[4] = {-s * (long double)u[i], 0, 0, 0};
            for (int64_t c = 0; c < f->n; c++) {
                sum[c & 3] += (long double)row[c] * (long double)v[c];
                back[c] += (long double)row[c] * (long double)u[i];
            }
            sum[0] += sum[1] + sum[2] + sum[3];
            right += sum[0] * sum[0];
        }
        for (int64_t i = 0; i < f->n; i++) left += back[i] * back[i];
        j->right[t] = sqrt((double)right);
        j->left[t] = sqrt((double)left);
    }
    mem_free(back);
}

/* max |X X^T - I| of the rows of x [r, len]. */
static inline double judge_identity(const double *x, int64_t r, int64_t len) {
    double worst = 0;
    for (int64_t a = 0; a < r; a++)
        for (int64_t b = 0; b <= a; b++) {
            long double sum = a == b ? -1.0L : 0.0L;
            for (int64_t i = 0; i < len; i++)
                sum += (long double)x[a * len + i] * (long double)x[b * len + i];
            worst = worse(worst, fabs((double)sum));
        }
    return worst;
}

/* c [r, k] = coefficients of the rows of x [r, len] along those of base [k, len]; beyond [r]. */
static inline void judge_coefficients(const double *x, const double *base, int64_t r, int64_t k,
                                      int64_t len, double *c, double *beyond) {
    double *rest = reals(r * len);
    memcpy(rest, x, (size_t)(r * len) * sizeof *rest);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)r, (int)k, (int)len, 1.0, x, (int)len,
                base, (int)len, 0.0, c, (int)k);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)r, (int)len, (int)k, -1.0, c,
                (int)k, base, (int)len, 1.0, rest, (int)len);
    for (int64_t t = 0; t < r; t++) beyond[t] = cblas_dnrm2((int)len, rest + t * len, 1);
    mem_free(rest);
}

/* A set C of indices: [first, last], or all that were asked for (first < 0). */
static inline bool judge_in(const struct judge *j, int64_t first, int64_t last, int64_t i) {
    if (first >= 0) return i >= first && i <= last;
    int64_t lo = 0, hi = j->r->rank;
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (j->index[mid] < i)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < j->r->rank && j->index[lo] == i;
}

struct judge_part {
    double u, v, gap, bound;
};

/* How much of triplet t lies outside the set, and how much may. */
static inline struct judge_part judge_outside(const struct judge *j, int64_t t, int64_t first,
                                              int64_t last) {
    struct judge_part p = {0, 0, INFINITY, 0};
    const double *cu = j->cu + t * j->f->k, *cv = j->cv + t * j->f->k;
    for (int64_t i = 0; i < j->f->k; i++) {
        if (judge_in(j, first, last, i)) continue;
        p.u += cu[i] * cu[i];
        p.v += cv[i] * cv[i];
        p.gap = fmin(p.gap, fabs(j->f->s[i] - j->sigma[t]));
    }
    p.u = sqrt(p.u);
    p.v = sqrt(p.v);
    p.bound = (hypot(j->right[t], j->left[t]) + 1.4143 * j->f->error) / p.gap +
              (double)j->f->k * DBL_EPSILON; /* the coefficients' own rounding */
    return p;
}

static inline bool judge_set(const struct judge *j, int64_t t, int64_t first, int64_t last,
                             const char *what) {
    struct judge_part p = judge_outside(j, t, first, last);
    double worst = fmax(p.u, p.v);
    if (!(p.gap > 0)) return false;
    JUDGE(worst <= p.bound, "triplet %lld (sigma %.6g): %.2g outside its %s, the bound is %.2g",
          (long long)j->index[t], j->r->sigma[t], worst, what, p.bound);
    j->worst->of_bound = fmax(j->worst->of_bound, worst / p.bound);
    if (first < 0 && p.gap < INFINITY && p.bound < 1e-8)
        j->worst->sine = fmax(j->worst->sine, worst);
    if (first < 0) j->worst->smallest = fmin(j->worst->smallest, p.gap / j->unit);
    return false;
}

static inline bool judge_spaces(const struct judge *j) {
    const struct reference *f = j->f;
    for (int64_t t = 0; t < j->r->rank; t++) {
        int64_t first = j->index[t], last = first;
        if (judge_set(j, t, first, first, "vector")) return true;
        if (judge_set(j, t, -1, 0, "asked space")) return true;
        while (first > 0 && f->s[first - 1] - f->s[first] <= 1e-8 * j->unit) first--;
        while (last + 1 < f->k && f->s[last] - f->s[last + 1] <= 1e-8 * j->unit) last++;
        if (judge_set(j, t, first, last, "cluster")) return true;
        double beyond = fmax(j->beyond_u[t], j->beyond_v[t]),
               bound = (fmax(j->right[t], j->left[t]) + f->error) / j->sigma[t] +
                       (double)f->k * DBL_EPSILON;
        JUDGE(!(beyond > bound), "triplet %lld: %.2g outside the range of W, the bound is %.2g",
              (long long)j->index[t], beyond, bound);
        struct judge_part own = judge_outside(j, t, j->index[t], j->index[t]);
        int64_t at = t * f->k + j->index[t];
        JUDGE(!(own.bound < 0.1 && j->sigma[t] > 1e-10 * j->unit) || j->cu[at] * j->cv[at] > 0,
              "triplet %lld: u and v have opposite signs", (long long)j->index[t]);
    }
    return false;
}

/* Figures that need no reference's vectors. */
static inline bool judge_numbers(const struct judge *j) {
    const struct svd_result *r = j->r;
    const struct reference *f = j->f;
    struct figures *w = j->worst;
    double residual = 0, noise = (double)(f->m + f->n) * DBL_EPSILON;
    for (int64_t t = 0; t < r->rank; t++)
        residual = worse(residual, worse(j->right[t], j->left[t]) / j->unit);
    double u = judge_identity(r->u, r->rank, f->m), v = judge_identity(r->v, r->rank, f->n);
    JUDGE(residual <= 1e-12, "residual %.2g, the limit is 1e-12", residual);
    JUDGE(u <= 1e-12 && v <= 1e-12, "U^T U or V^T V off the identity by %.2g, %.2g", u, v);
    JUDGE(residual <= 2 * r->residual + noise && r->residual <= 2 * residual + noise,
          "says residual %.2g, has %.2g", r->residual, residual);
    JUDGE(fmax(u, v) <= 2 * r->orthogonality + noise, "says orthogonality %.2g, has %.2g",
          r->orthogonality, fmax(u, v));
    JUDGE(fabs(r->sigma_max * f->scale - f->s[0]) <= 1e-6 * f->s[0], "sigma_max %.9g, is %.9g",
          r->sigma_max, f->s[0] / f->scale);
    JUDGE(r->cut >= 0 && r->cut <= 1e-10, "cut %.2g proves nothing", r->cut);
    for (int64_t t = 0; t < r->rank; t++) {
        double e = fabs(j->sigma[t] - f->s[j->index[t]]) / j->unit;
        JUDGE(e <= 1e-10, "sigma[%lld] = %.17g, value %lld of W is %.17g", (long long)t,
              r->sigma[t], (long long)j->index[t], f->s[j->index[t]] / f->scale);
        /* Kahan: the values of r orthonormal pairs lie within the norm of their residuals of r values
         * of W; of which ones, the cut says */
        JUDGE(e <= sqrt((double)r->rank) * residual + f->error / j->unit + r->cut + noise,
              "sigma[%lld] is %.2g sigma_max off, more than residual %.2g and cut %.2g allow",
              (long long)t, e, residual, r->cut);
        w->sigma = fmax(w->sigma, e);
    }
    w->residual = fmax(w->residual, residual);
    w->orthogonality = fmax(w->orthogonality, fmax(u, v));
    w->cut = fmax(w->cut, r->cut);
    return false;
}

/* What must hold to the bit. */
static inline bool judge_form(const struct judge *j) {
    const struct svd_result *r = j->r;
    JUDGE(r->m == j->f->m && r->n == j->f->n, "says %lld x %lld", (long long)r->m, (long long)r->n);
    JUDGE(r->served_by && *r->served_by && r->seconds >= 0, "does not say who served");
    for (int64_t t = 0; t < r->rank; t++) {
        const double *u = r->u + t * r->m;
        int64_t top = 0;
        JUDGE(r->sigma[t] >= 0 && isfinite(r->sigma[t]), "sigma[%lld] = %g", (long long)t,
              r->sigma[t]);
        JUDGE(t == 0 || r->sigma[t] <= r->sigma[t - 1], "sigma[%lld] ascends", (long long)t);
        for (int64_t i = 1; i < r->m; i++)
            if (fabs(u[i]) > fabs(u[top])) top = i;
        JUDGE(u[top] > 0, "u_%lld's largest entry is not positive", (long long)t);
    }
    return false;
}

/* false: the result is true.  true: text says what is wrong.  index: as svd_indices gives. */
static inline bool judge_result(const struct reference *f, const int64_t *index,
                                const struct svd_result *r, struct figures *worst, char *text,
                                size_t cap) {
    int64_t rank = r->rank, k = f->k;
    struct judge j = {f,
                      r,
                      index,
                      worst,
                      f->s[0] > 0 ? f->s[0] : 1,
                      reals(rank),
                      reals(rank),
                      reals(rank),
                      reals(rank * k),
                      reals(rank * k),
                      reals(rank),
                      reals(rank),
                      text,
                      cap};
    for (int64_t t = 0; t < rank; t++) j.sigma[t] = f->scale * r->sigma[t];
    judge_residuals(&j);
    judge_coefficients(r->u, f->u, rank, k, f->m, j.cu, j.beyond_u);
    judge_coefficients(r->v, f->v, rank, k, f->n, j.cv, j.beyond_v);
    bool bad = judge_form(&j) || judge_numbers(&j) || judge_spaces(&j);
    mem_free(j.sigma);
    mem_free(j.right);
    mem_free(j.left);
    mem_free(j.cu);
    mem_free(j.cv);
    mem_free(j.beyond_u);
    mem_free(j.beyond_v);
    return bad;
}

#undef JUDGE

#endif
