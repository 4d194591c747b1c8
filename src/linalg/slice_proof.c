/* SPDX-License-Identifier: Apache-2.0 */
/* slice_proof.c - how far the counted matrices are from the one that is meant.
 *
 * The inertia of a computed factorisation T D T^T is exactly that of G - shift I + E,
 * E = T D T^T - (G - shift I): the error of the f32 Gram matrix and that of the elimination
 * together.  E is applied in f64, to the stored weight and the stored factors.  For a Gaussian
 * vector z and symmetric E, ||E^n z|| >= ||E||^n |z_1| with z_1 standard normal, and |z_1| < 0.1 has
 * probability 0.08; hence with COLUMNS = 8 independent vectors
 *     ||E|| <= (10 max_j ||E^n z_j||)^(1/n)    but for a probability of 0.08^8 < 2e-9, per matrix.
 * n grows until the bound serves, or is hopeless after ENOUGH: each power costs two products with the
 * weight. */
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "linalg/slice.h"

enum { COLUMNS = 8, ENOUGH = 4, POWERS = 12, PROOF_STREAM = 0x51cf };

struct power {
    const struct svd_matrix *w;
    double s2;
    const double *shift;
    const struct ldlt *const *factors;
    double *z, *gz, *hz; /* [k, 2 COLUMNS], twice, and [l, 2 COLUMNS]: both matrices side by side */
    double scale[2];     /* E^n z = scale * z, kept near 1 */
};

/* z <- E z for both matrices; `same`: both halves of z are equal. */
static enum mil_status step(struct power *c, bool same, struct mil_error *err) {
    int64_t k = short_side(c->w), half = k * COLUMNS, cols = same ? COLUMNS : 2 * COLUMNS;
    TRY(matrix_apply(c->w, c->z, cols, c->hz, err));
    TRY(matrix_apply_t(c->w, c->hz, cols, c->gz, err));
    if (same) memcpy(c->gz + half, c->gz, (size_t)half * sizeof *c->gz);
    for (int m = 0; m < 2; m++) {
        double *z = c->z + m * half, *gz = c->gz + m * half, largest = 0;
        for (int64_t i = 0; i < half; i++) gz[i] = c->shift[m] * z[i] - c->s2 * gz[i];
        ldlt_multiply(c->factors[m], z, COLUMNS);
        for (int64_t j = 0; j < COLUMNS; j++) {
            double sum = 0;
            for (int64_t i = j * k; i < (j + 1) * k; i++) {
                z[i] += gz[i];
                sum += z[i] * z[i];
            }
            if (!(sqrt(sum) <= largest)) largest = sqrt(sum);
        }
        c->scale[m] *= largest;
        for (int64_t i = 0; largest > 0 && i < half; i++) z[i] /= largest;
    }
    return MIL_OK;
}

static enum mil_status power_new(struct power *c, struct mil_error *err) {
    size_t k = (size_t)short_side(c->w), l = (size_t)long_side(c->w);
    size_t half = k * COLUMNS;
    c->z = mem_alloc(MEM_SCRATCH, 2 * half, sizeof *c->z);
    c->gz = mem_alloc(MEM_SCRATCH, 2 * half, sizeof *c->gz);
    c->hz = mem_alloc(MEM_SCRATCH, 2 * l * COLUMNS, sizeof *c->hz);
    if (!c->z || !c->gz || !c->hz)
        return error_nomem(err, (4 * half + 2 * l * COLUMNS) * sizeof(double));
    for (size_t i = 0; i < half; i++)
        c->z[i] = c->z[half + i] = rng_normal(0, rng_stream(RNG_SELECT, PROOF_STREAM), 0, i);
    return MIL_OK;
}

enum mil_status slice_bounds(const struct svd_matrix *w, double s,
                             const struct ldlt *const factors[2], const double shift[2],
                             const double wanted[2], double bound[2], struct mil_error *err) {
    struct power c = {.w = w, .s2 = s * s, .shift = shift, .factors = factors, .scale = {1, 1}};
    enum mil_status st;
    bound[0] = bound[1] = INFINITY;
    TRY_GOTO(power_new(&c, err));
    for (int n = 1; n <= POWERS; n++) {
        TRY_GOTO(step(&c, n == 1, err));
        for (int m = 0; m < 2; m++) bound[m] = fmin(bound[m], pow(10 * c.scale[m], 1.0 / n));
        if (bound[0] <= wanted[0] && bound[1] <= wanted[1]) break;
        if (n >= ENOUGH && (bound[0] > 3 * wanted[0] || bound[1] > 3 * wanted[1])) break;
    }
fail:
    mem_free(c.z);
    mem_free(c.gz);
    mem_free(c.hz);
    return st;
}
