/* SPDX-License-Identifier: Apache-2.0 */
/* values.c - all singular values of a weight, without vectors, by LAPACK's dgesdd in f64. */
#include <lapacke.h>

#include "core/mem.h"
#include "linalg/internal.h"

enum mil_status values_all(const struct svd_matrix *w, double *sigma, struct mil_error *err) {
    enum mil_status st = MIL_OK;
    lapack_int m = (lapack_int)w->m, n = (lapack_int)w->n, k = (lapack_int)short_side(w), info;
    double want = 0, *work = NULL, none[1];
    double *a = mem_alloc(MEM_SCRATCH, (size_t)(w->m * w->n), sizeof *a);
    lapack_int *iwork = mem_alloc(MEM_SCRATCH, (size_t)k * 8, sizeof *iwork);
    if (!a || !iwork) {
        st = error_nomem(err, (uint64_t)(w->m * w->n) * sizeof *a);
        goto fail;
    }
    LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'N', n, m, a, n, sigma, none, 1, none, 1, &want, -1,
                        iwork);
    work = mem_alloc(MEM_SCRATCH, (size_t)want + 1, sizeof *work);
    if (!work) {
        st = error_nomem(err, (uint64_t)want * sizeof *work);
        goto fail;
    }
    matrix_rows_f64(w, 0, w->m, a);
    info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'N', n, m, a, n, sigma, none, 1, none, 1, work,
                               (lapack_int)want, iwork);
    if (info != 0)
        st = error_set(err, MIL_NUMERIC,
                       "singular values of a %lld x %lld matrix: dgesdd did not converge (info %d)",
                       (long long)w->m, (long long)w->n, (int)info);
fail:
    mem_free(work);
    mem_free(iwork);
    mem_free(a);
    return st;
}
