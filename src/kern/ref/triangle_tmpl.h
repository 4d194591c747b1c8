/* SPDX-License-Identifier: Apache-2.0 */
/* triangle_tmpl.h - substitution by panels of a packed triangle; see struct kern_triangle. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

/* y = D x or D^T x of 16 numbers; d [16 columns][16 rows]. */
static void triangle_diagonal(const real *d, bool transposed, const real *x, real *y) {
    for (int i = 0; i < KERN_TRIANGLE_ROWS; i++) {
        y[i] = 0;
        for (int j = 0; j < KERN_TRIANGLE_ROWS; j++)
            y[i] +=
                (transposed ? d[i * KERN_TRIANGLE_ROWS + j] : d[j * KERN_TRIANGLE_ROWS + i]) * x[j];
    }
}

static void triangle_fwd(const struct kern_triangle *a, int64_t begin, int64_t end) {
    const real *panel = (const real *)a->panel;
    int64_t first = a->index * KERN_TRIANGLE_ROWS;
    for (int64_t c = begin * KERN_TRIANGLE_LANES; c < end * KERN_TRIANGLE_LANES; c++) {
        real *x = (real *)a->x + c, sum[KERN_TRIANGLE_ROWS], out[KERN_TRIANGLE_ROWS];
        for (int i = 0; i < KERN_TRIANGLE_ROWS; i++) sum[i] = x[(first + i) * a->width];
        for (int64_t j = 0; j < first; j++)
            for (int i = 0; i < KERN_TRIANGLE_ROWS; i++)
                sum[i] += panel[j * KERN_TRIANGLE_ROWS + i] * x[j * a->width];
        triangle_diagonal(panel + a->index * KERN_TRIANGLE_TILE, false, sum, out);
        for (int i = 0; i < KERN_TRIANGLE_ROWS; i++) x[(first + i) * a->width] = out[i];
    }
}

static void triangle_bwd(const struct kern_triangle *a, int64_t begin, int64_t end) {
    const real *panel = (const real *)a->panel;
    int64_t first = a->index * KERN_TRIANGLE_ROWS;
    for (int64_t c = begin * KERN_TRIANGLE_LANES; c < end * KERN_TRIANGLE_LANES; c++) {
        real *x = (real *)a->x + c, in[KERN_TRIANGLE_ROWS], out[KERN_TRIANGLE_ROWS];
        for (int i = 0; i < KERN_TRIANGLE_ROWS; i++) in[i] = x[(first + i) * a->width];
        triangle_diagonal(panel + a->index * KERN_TRIANGLE_TILE, true, in, out);
        for (int i = 0; i < KERN_TRIANGLE_ROWS; i++) x[(first + i) * a->width] = out[i];
        for (int64_t j = 0; j < first; j++)
            for (int i = 0; i < KERN_TRIANGLE_ROWS; i++)
                x[j * a->width] += panel[j * KERN_TRIANGLE_ROWS + i] * out[i];
    }
}
