/* SPDX-License-Identifier: Apache-2.0 */
/* triangle_tmpl.h - substitution by panels of a packed triangle; equations in
 * kern/ref/triangle_tmpl.h.
 *
 * Both directions are products of a few rows of the panel with rows of x.  Forward, 16 rows of x
 * gather from all those above, in runs of TRIANGLE_RUN so that these stay in the first cache level
 * while the panel's rows pass in groups (and so that no sum is one long chain: its rounding is that
 * of a run plus that of the runs); backward, each tile scatters into 16 rows.  The panel is
 * read in order, once, in both. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

/* A matrix of f32 by element strides: row to row, column to column. */
struct strided {
    const float *p;
    int64_t row, col;
};

/* One group: strips of right-hand sides that are done together, and rows whose sums fit the
 * registers beside them. */
enum {
    TRIANGLE_RUN = 128,
    TRIANGLE_STRIP = KERN_TRIANGLE_LANES / VL, /* vectors in a strip */
    TRIANGLE_WIDE = VL == 16 ? 4 : 1           /* strips done together where there are enough */
};

/* c [rows][nv vectors] += A [rows][depth] b [depth][nv vectors], b and c `width` apart. */
static inline __attribute__((always_inline)) void triangle_rows(int rows, int nv, int64_t depth,
                                                                struct strided a, const float *b,
                                                                float *c, int64_t width) {
    vf sum[16];
    for (int i = 0; i < rows * nv; i++) sum[i] = vf_set(0);
    for (int64_t j = 0; j < depth; j++) {
        const float *from = b + j * width;
        for (int i = 0; i < rows; i++) {
            vf x = vf_set(a.p[i * a.row + j * a.col]);
            for (int v = 0; v < nv; v++)
                sum[i * nv + v] = vf_fma(x, vf_load(from + v * VL), sum[i * nv + v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < nv; v++) {
            float *to = c + i * width + v * VL;
            vf_store(to, vf_load(to) + sum[i * nv + v]);
        }
}

/* 16 rows of c in groups of `rows`. */
static inline __attribute__((always_inline)) void triangle_block(int rows, int nv, int64_t depth,
                                                                 struct strided a, const float *b,
                                                                 float *c, int64_t width) {
    for (int i = 0; i < KERN_TRIANGLE_ROWS; i += rows) {
        struct strided ai = {a.p + i * a.row, a.row, a.col};
        triangle_rows(rows, nv, depth, ai, b, c + i * width, width);
    }
}

/* x_I <- D x_I or D^T x_I, by way of a copy. */
static inline __attribute__((always_inline)) void
triangle_diagonal(int rows, int nv, const float *d, bool transposed, float *x, int64_t width) {
    float copy[KERN_TRIANGLE_ROWS * 4 * 16];
    struct strided a = {d, transposed ? KERN_TRIANGLE_ROWS : 1,
                        transposed ? 1 : KERN_TRIANGLE_ROWS};
    for (int i = 0; i < KERN_TRIANGLE_ROWS; i++)
        for (int v = 0; v < nv; v++)
            vf_store(copy + (i * nv + v) * VL, vf_load(x + i * width + v * VL));
    for (int i = 0; i < KERN_TRIANGLE_ROWS; i += rows) {
        vf sum[16];
        for (int j = 0; j < rows * nv; j++) sum[j] = vf_set(0);
        for (int j = 0; j < KERN_TRIANGLE_ROWS; j++)
            for (int q = 0; q < rows; q++) {
                vf y = vf_set(a.p[(i + q) * a.row + j * a.col]);
                for (int v = 0; v < nv; v++)
                    sum[q * nv + v] = vf_fma(y, vf_load(copy + (j * nv + v) * VL), sum[q * nv + v]);
            }
        for (int q = 0; q < rows; q++)
            for (int v = 0; v < nv; v++) vf_store(x + (i + q) * width + v * VL, sum[q * nv + v]);
    }
}

static inline __attribute__((always_inline)) void
triangle_fwd_strips(int rows, int nv, const struct kern_triangle *a, float *x) {
    const float *panel = a->panel;
    int64_t first = a->index * KERN_TRIANGLE_ROWS;
    for (int64_t j = 0; j < first; j += TRIANGLE_RUN) {
        struct strided t = {panel + j * KERN_TRIANGLE_ROWS, 1, KERN_TRIANGLE_ROWS};
        triangle_block(rows, nv, least(TRIANGLE_RUN, first - j), t, x + j * a->width,
                       x + first * a->width, a->width);
    }
    triangle_diagonal(rows, nv, panel + a->index * KERN_TRIANGLE_TILE, false, x + first * a->width,
                      a->width);
}

static inline __attribute__((always_inline)) void
triangle_bwd_strips(int rows, int nv, const struct kern_triangle *a, float *x) {
    const float *panel = a->panel;
    int64_t first = a->index * KERN_TRIANGLE_ROWS;
    triangle_diagonal(rows, nv, panel + a->index * KERN_TRIANGLE_TILE, true, x + first * a->width,
                      a->width);
    for (int64_t j = 0; j < first; j += KERN_TRIANGLE_ROWS) {
        struct strided t = {panel + j * KERN_TRIANGLE_ROWS, KERN_TRIANGLE_ROWS, 1};
        triangle_block(rows, nv, KERN_TRIANGLE_ROWS, t, x + first * a->width, x + j * a->width,
                       a->width);
    }
}

/* Sums in registers: 4 rows x 4 vectors, or 16 rows x 1 (AVX-512); 4 x 2 (AVX2). */
static void triangle_fwd(const struct kern_triangle *a, int64_t begin, int64_t end) {
    int64_t s = begin;
    float *x = a->x;
    for (; TRIANGLE_WIDE > 1 && s + TRIANGLE_WIDE <= end; s += TRIANGLE_WIDE)
        triangle_fwd_strips(4, 4, a, x + s * KERN_TRIANGLE_LANES);
    for (; s < end; s++)
        triangle_fwd_strips(VL == 16 ? 16 : 4, TRIANGLE_STRIP, a, x + s * KERN_TRIANGLE_LANES);
}

static void triangle_bwd(const struct kern_triangle *a, int64_t begin, int64_t end) {
    int64_t s = begin;
    float *x = a->x;
    for (; TRIANGLE_WIDE > 1 && s + TRIANGLE_WIDE <= end; s += TRIANGLE_WIDE)
        triangle_bwd_strips(4, 4, a, x + s * KERN_TRIANGLE_LANES);
    for (; s < end; s++)
        triangle_bwd_strips(VL == 16 ? 16 : 4, TRIANGLE_STRIP, a, x + s * KERN_TRIANGLE_LANES);
}
