/* SPDX-License-Identifier: Apache-2.0 */
/* qr.c - the leading part of a QR factorisation: a panel by LAPACK, the rest of R by one product.
 *
 *     W[:, :r] = Q_r T   (dgeqrf, dorgqr)        R[:r] = [ T | Q_r^T W[:, r:] ]
 * Below its diagonal T is exactly zero.  4 m n r operations, where all of R takes 4 m n min(m, n); the f64 copy of W
 * exists by blocks of rows only.  The error is that of Householder's method, about m eps ||W|| (Higham, Accuracy and
 * Stability of Numerical Algorithms, theorem 19.4), and of a product with an orthonormal Q_r. */
#include "linalg/qr.h"

#include <cblas.h>
#include <lapacke.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/internal.h"

/* Numbers of a block of rows. */
enum { BLOCK = 1 << 18, WORK_BLOCK = 64 };

static int64_t block_rows(int64_t m, int64_t n) {
    int64_t rows = BLOCK / n > 1 ? BLOCK / n : 1;
    return rows < m ? rows : m;
}

struct qr_scratch {
    double *block;      /* [block_rows, n] */
    double *tau, *work; /* [r], [WORK_BLOCK r] */
};

static size_t scratch_numbers(int64_t m, int64_t n, int64_t r) {
    return (size_t)(block_rows(m, n) * n + r + WORK_BLOCK * r);
}

size_t qr_memory(int64_t m, int64_t n, int64_t r) {
    return sizeof(double) * (scratch_numbers(m, n, r) + (size_t)(r * (m + n)));
}

/* The first r columns of W, one after another. */
static void gather_panel(const struct svd_matrix *w, int64_t r, double *panel, double *block) {
    int64_t step = block_rows(w->m, w->n);
    for (int64_t begin = 0; begin < w->m; begin += step) {
        int64_t rows = w->m - begin < step ? w->m - begin : step;
        matrix_rows_f64(w, begin, begin + rows, block);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t t = 0; t < r; t++) panel[t * w->m + begin + i] = block[i * w->n + t];
    }
}

/* q: the panel, then Q_r; triangle [r, n]: T in its first r columns. */
static enum mil_status factor_panel(const struct svd_matrix *w, int64_t r, double *q,
                                    double *triangle, const struct qr_scratch *s,
                                    struct mil_error *err) {
    lapack_int m = (lapack_int)w->m, k = (lapack_int)r, work = WORK_BLOCK * k;
    lapack_int info = LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, m, k, q, m, s->tau, s->work, work);
    for (int64_t t = 0; info == 0 && t < r; t++)
        for (int64_t j = 0; j < r; j++) triangle[t * w->n + j] = j < t ? 0 : q[j * w->m + t];
    if (info == 0)
        info = LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, m, k, k, q, m, s->tau, s->work, work);
    return info == 0 ? MIL_OK
                     : error_set(err, MIL_NUMERIC, "QR factorisation: LAPACK's info %d", (int)info);
}

/* Columns from r on of rows [r, n] = Q_r^T W. */
static void project(const struct svd_matrix *w, int64_t r, const double *q, double *rows,
                    double *block) {
    int64_t m = w->m, n = w->n, rest = n - r, step = block_rows(m, n);
    for (int64_t begin = 0; rest > 0 && begin < m; begin += step) {
        int64_t count = m - begin < step ? m - begin : step;
        matrix_rows_f64(w, begin, begin + count, block);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)r, (int)rest, (int)count, 1.0,
                    q + begin, (int)m, block + r, (int)n, begin ? 1.0 : 0.0, rows + r, (int)n);
    }
}

enum mil_status qr_leading(const struct svd_matrix *w, int64_t r, double *q, double *rows,
                           struct mil_error *err) {
    double frobenius;
    int64_t k = short_side(w);
    TRY(matrix_check(w, &frobenius, err));
    if (r < 1 || r > k)
        return error_set(err, MIL_USAGE,
                         "%lld columns of the QR factorisation of a %lld x %lld "
                         "matrix: choose 1 to %lld",
                         (long long)r, (long long)w->m, (long long)w->n, (long long)k);
    size_t numbers = scratch_numbers(w->m, w->n, r);
    double *all = mem_alloc(MEM_SCRATCH, numbers, sizeof *all);
    if (!all) return error_nomem(err, numbers * sizeof *all);
    struct qr_scratch s = {.tau = all, .work = all + r, .block = all + r + WORK_BLOCK * r};
    gather_panel(w, r, q, s.block);
    enum mil_status st = factor_panel(w, r, q, rows, &s, err);
    if (st == MIL_OK) project(w, r, q, rows, s.block);
    mem_free(all);
    return st;
}
