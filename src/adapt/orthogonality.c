/* SPDX-License-Identifier: Apache-2.0 */
/* orthogonality.c - how far vectors are from orthonormal (AdaLoRA, Zhang et al. 2023, equation 4), and the gradient.
 *
 *   columns of P [length, r]:  C = P^T P - I    R = ||C||_F    dR/dP = 2 P C / R
 *   rows of Q [r, length]:     C = Q Q^T - I    R = ||C||_F    dR/dQ = 2 C Q / R
 *
 * (AdaLoRA's own R is ||C||_F squared in the paper, ||C||_F in the authors' code and in PEFT: here too.)
 * All in f64: near orthonormality C is a difference of nearly equal numbers, and its direction is the gradient.  The
 * vectors are widened in tiles of TILE places, once for C and once for the product with it, so that the scratch stays
 * in the cache and does not grow with the model.  Called for many modules side by side, a thread each; the library runs
 * serially within. */
#include "adapt/orthogonality.h"

#include <cblas.h>
#include <math.h>

enum { TILE = 256 };

size_t orthogonality_scratch(int64_t r) {
    return (size_t)(2 * TILE * r + r * r);
}

/* ---- tiles: places [at, at + n) of every vector ---- */

static void load(struct tensor t, int64_t offset, int64_t n, double *out, bool add) {
    const float *narrow = (const float *)t.data + offset;
    const double *wide = (const double *)t.data + offset;
    for (int64_t i = 0; i < n; i++) {
        double x = t.dtype == DT_F64 ? wide[i] : (double)narrow[i];
        out[i] = add ? out[i] + x : x;
    }
}

static void load_run(const struct orthogonality *o, int64_t offset, int64_t n, double *x) {
    load(o->value, offset, n, x, false);
    if (tensor_present(o->base)) load(o->base, offset, n, x, true);
}

/* x: [n, r] of columns, [r, n] of rows. */
static void load_tile(const struct orthogonality *o, int64_t at, int64_t n, double *x) {
    if (!o->rows) {
        load_run(o, at * o->r, n * o->r, x);
        return;
    }
    for (int64_t j = 0; j < o->r; j++) load_run(o, j * o->length + at, n, x + j * n);
}

static void add_run(const struct orthogonality *o, int64_t offset, int64_t n, double factor,
                    const double *y) {
    float *narrow = (float *)o->grad.data + offset;
    double *wide = (double *)o->grad.data + offset;
    if (o->grad.dtype == DT_F64)
        for (int64_t i = 0; i < n; i++) wide[i] += factor * y[i];
    else
        for (int64_t i = 0; i < n; i++) narrow[i] = (float)((double)narrow[i] + factor * y[i]);
}

static void add_tile(const struct orthogonality *o, int64_t at, int64_t n, double factor,
                     const double *y) {
    if (!o->rows) {
        add_run(o, at * o->r, n * o->r, factor, y);
        return;
    }
    for (int64_t j = 0; j < o->r; j++) add_run(o, j * o->length + at, n, factor, y + j * n);
}

/* ---- penalty ---- */

static int64_t tile_length(const struct orthogonality *o, int64_t at) {
    return o->length - at < TILE ? o->length - at : TILE;
}

/* Upper triangle of C; returns its norm. */
static double excess(const struct orthogonality *o, double *c, double *x) {
    int r = (int)o->r;
    double sum = 0;
    for (int64_t at = 0; at < o->length; at += TILE) {
        int n = (int)tile_length(o, at);
        load_tile(o, at, n, x);
        cblas_dsyrk(CblasRowMajor, CblasUpper, o->rows ? CblasNoTrans : CblasTrans, r, n, 1.0, x,
                    o->rows ? n : r, at ? 1.0 : 0.0, c, r);
    }
    for (int64_t i = 0; i < r; i++) {
        c[i * r + i] -= 1;
        sum += c[i * r + i] * c[i * r + i];
        for (int64_t j = i + 1; j < r; j++) sum += 2 * c[i * r + j] * c[i * r + j];
    }
    return sqrt(sum);
}

double orthogonality_add(const struct orthogonality *o, double weight, double *scratch) {
    int r = (int)o->r;
    double *x = scratch, *y = x + TILE * o->r, *c = y + TILE * o->r, norm = excess(o, c, x);
    if (norm == 0) return 0;
    for (int64_t at = 0; at < o->length; at += TILE) {
        int n = (int)tile_length(o, at);
        load_tile(o, at, n, x);
        if (o->rows)
            cblas_dsymm(CblasRowMajor, CblasLeft, CblasUpper, r, n, 1.0, c, r, x, n, 0.0, y, n);
        else
            cblas_dsymm(CblasRowMajor, CblasRight, CblasUpper, n, r, 1.0, c, r, x, r, 0.0, y, r);
        add_tile(o, at, n, 2 * weight / norm, y);
    }
    return norm;
}
