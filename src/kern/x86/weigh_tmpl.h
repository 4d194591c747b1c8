/* SPDX-License-Identifier: Apache-2.0 */
/* weigh_tmpl.h - a stored matrix, or its transpose, times a block of vectors in f64; equations in
 * kern/ref/weigh_tmpl.h.
 *
 * A tile of the matrix is widened into the first or second cache level and met by all vectors:
 *     weigh     6 rows x 256 columns;     out: 6 rows x 4 vectors of sums in registers
 *     weigh_t   128 rows x 96 columns;    out: 6 of its columns x 4 vectors
 * so nothing is packed twice, and the matrix is read once from memory. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum {
    WEIGH_ROWS = 6,
    WEIGH_DEPTH = 256,
    WEIGH_DEPTH_T = 128,
    WEIGH_VECTORS = VL == 16 ? 4 : 2,
    WEIGH_LANES = WEIGH_VECTORS * VD
};

/* n numbers of w from element `at` on. */
static inline void weigh_widen(const struct kern_weigh *a, int64_t at, int64_t n, double *out) {
    struct kern_map m = {.y = out,
                         .x = (const unsigned char *)a->w + (size_t)at * dtype_size(a->type),
                         .y_type = DT_F64,
                         .x_type = a->type,
                         .scale = 1};
    map(&m, 0, n);
}

/* Ask for a tile ahead: its rows lie pages apart, where the processor does not look by itself. */
static inline void weigh_prefetch(const struct kern_weigh *a, int64_t i, int64_t j, int64_t rows,
                                  int64_t cols) {
    int64_t size = (int64_t)dtype_size(a->type);
    rows = least(rows, a->rows - i);
    cols = least(cols, a->cols - j);
    for (int64_t r = 0; r < rows; r++) {
        const char *p = (const char *)a->w + ((i + r) * a->ld + j) * size;
        for (int64_t b = 0; b < cols * size; b += 64) _mm_prefetch(p + b, _MM_HINT_T1);
    }
}

/* c [rows][nv vectors] = (first ? 0 : c) + A [rows][depth] b [depth][nv vectors]; A by strides. */
static inline __attribute__((always_inline)) void weigh_rows(int rows, int nv, int64_t depth,
                                                             const double *a, int64_t row,
                                                             int64_t col, const double *b,
                                                             double *c, int64_t width, bool first) {
    vd sum[WEIGH_ROWS * 4];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < nv; v++)
            sum[i * nv + v] = first ? vd_set(0) : vd_load(c + i * width + v * VD);
    for (int64_t j = 0; j < depth; j++)
        for (int i = 0; i < rows; i++) {
            vd x = vd_set(a[i * row + j * col]);
            for (int v = 0; v < nv; v++)
                sum[i * nv + v] = vd_fma(x, vd_load(b + j * width + v * VD), sum[i * nv + v]);
        }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < nv; v++) vd_store(c + i * width + v * VD, sum[i * nv + v]);
}

/* All lanes of `rows` rows. */
static inline __attribute__((always_inline)) void
weigh_lanes(int rows, int64_t depth, const double *a, int64_t row, int64_t col, const double *b,
            double *c, int64_t width, bool first) {
    int64_t v = 0;
    for (; v + WEIGH_LANES <= width; v += WEIGH_LANES)
        weigh_rows(rows, WEIGH_VECTORS, depth, a, row, col, b + v, c + v, width, first);
    for (; v < width; v += VD) weigh_rows(rows, 1, depth, a, row, col, b + v, c + v, width, first);
}

/* As many rows as there are, in sixes. */
static void weigh_tile(int64_t rows, int64_t depth, const double *a, int64_t row, int64_t col,
                       const double *b, double *c, int64_t width, bool first) {
    int64_t i = 0;
    for (; i + WEIGH_ROWS <= rows; i += WEIGH_ROWS)
        weigh_lanes(WEIGH_ROWS, depth, a + i * row, row, col, b, c + i * width, width, first);
    for (; i < rows; i++)
        weigh_lanes(1, depth, a + i * row, row, col, b, c + i * width, width, first);
}

static void weigh(const struct kern_weigh *a, int64_t begin, int64_t end) {
    _Alignas(64) double tile[WEIGH_ROWS * WEIGH_DEPTH];
    int64_t last = least(end * KERN_WEIGH_GROUP, a->rows);
    for (int64_t i0 = begin * KERN_WEIGH_GROUP; i0 < last; i0 += KERN_WEIGH_GROUP)
        for (int64_t j = 0; j < a->cols; j += WEIGH_DEPTH) {
            int64_t depth = least(WEIGH_DEPTH, a->cols - j);
            for (int64_t i = i0; i < least(i0 + KERN_WEIGH_GROUP, last); i += WEIGH_ROWS) {
                int64_t rows = least(WEIGH_ROWS, last - i);
                for (int64_t r = 0; r < rows; r++)
                    weigh_widen(a, (i + r) * a->ld + j, depth, tile + r * WEIGH_DEPTH);
                if (i + WEIGH_ROWS < least(i0 + KERN_WEIGH_GROUP, last))
                    weigh_prefetch(a, i + WEIGH_ROWS, j, WEIGH_ROWS, depth);
                else
                    weigh_prefetch(a, i0, j + depth, WEIGH_ROWS, WEIGH_DEPTH);
                weigh_tile(rows, depth, tile, WEIGH_DEPTH, 1, a->in + j * a->width,
                           a->out + i * a->width, a->width, j == 0);
            }
        }
}

static void weigh_t(const struct kern_weigh *a, int64_t begin, int64_t end) {
    _Alignas(64) double tile[WEIGH_DEPTH_T * KERN_WEIGH_GROUP];
    int64_t last = least(end * KERN_WEIGH_GROUP, a->cols);
    for (int64_t j = begin * KERN_WEIGH_GROUP; j < last; j += KERN_WEIGH_GROUP)
        for (int64_t i = 0; i < a->rows; i += WEIGH_DEPTH_T) {
            int64_t cols = least(KERN_WEIGH_GROUP, last - j);
            int64_t depth = least(WEIGH_DEPTH_T, a->rows - i);
            for (int64_t r = 0; r < depth; r++)
                weigh_widen(a, (i + r) * a->ld + j, cols, tile + r * KERN_WEIGH_GROUP);
            weigh_prefetch(a, i + depth, j, WEIGH_DEPTH_T, cols);
            weigh_tile(cols, depth, tile, 1, KERN_WEIGH_GROUP, a->in + i * a->width,
                       a->out + j * a->width, a->width, i == 0);
        }
}
