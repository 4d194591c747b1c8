/* SPDX-License-Identifier: Apache-2.0 */
/* weight_view.c - reading stored weights: any float type, rows permuted or not, into f32, bf16,
 * f64.
 *
 * llama.cpp's converter stores the rows of q and k of a LLaMA so that each rotary pair (j, j + D/2)
 * of a head becomes neighbours: row (h, s, j), s in {0, 1}, j < D/2, goes to row h D + 2 j + s.
 * weight_row_f32 looks the row up where it lies; a bias is permuted the same way by element.
 *
 * Work is cut into pieces of a row that are multiples of every block size, so that quantised rows
 * are converted without a buffer of a row's length. */
#include "model/weight_view.h"

#include <stdatomic.h>

#include "core/mem.h"
#include "core/threads.h"
#include "kern/dequant.h"

enum { PIECE = 1024 }; /* elements; a multiple of 256, the largest block */

/* Where row (or element, for a vector) i of the model lies in a permuted matrix of n rows. */
static int64_t stored_index(const struct weight_view *v, int64_t n, int64_t i) {
    if (v->head_permuted == 0) return i;
    int64_t d = n / v->head_permuted, within = i % d, half = d / 2;
    return i - within + 2 * (within % half) + within / half;
}

static const unsigned char *element(const struct weight_view *v, int64_t row, int64_t col) {
    size_t block = dtype_block_elems(v->dtype), bytes = dtype_block_bytes(v->dtype);
    size_t at = (size_t)row * (size_t)v->cols + (size_t)col;
    return (const unsigned char *)v->data + at / block * bytes;
}

/* Elements [col, col + n) of row i in f32. */
static void read_piece(const struct weight_view *v, int64_t i, int64_t col, int64_t n, float *dst) {
    if (v->rows == 1 && v->head_permuted > 0) {
        for (int64_t j = 0; j < n; j++)
            dequant_to_f32(v->dtype, element(v, 0, stored_index(v, v->cols, col + j)), 1, dst + j);
        return;
    }
    dequant_to_f32(v->dtype, element(v, stored_index(v, v->rows, i), col), n, dst);
}

void weight_row_f32(const struct weight_view *v, int64_t i, float *dst) {
    DCHECK(i >= 0 && i < v->rows);
    read_piece(v, i, 0, v->cols, dst);
}

bool weight_usable_as(const struct weight_view *v, enum dtype t) {
    return v->dtype == t && v->head_permuted == 0 && (uintptr_t)v->data % dtype_size(t) == 0;
}

bool weight_is_plain(const struct weight_view *v) {
    return dtype_block_elems(v->dtype) == 1 && weight_usable_as(v, v->dtype);
}

enum mil_status weight_plain(const struct weight_view *v, struct weight_view *out, float **copy,
                             struct mil_error *err) {
    size_t n = (size_t)v->rows * (size_t)v->cols;
    *copy = NULL;
    *out = *v;
    if (weight_is_plain(v)) return MIL_OK;
    *copy = mem_alloc(MEM_SCRATCH, n, sizeof **copy);
    if (!*copy) return error_nomem(err, n * sizeof **copy);
    weight_to_f32(v, *copy);
    out->data = *copy;
    out->dtype = DT_F32;
    out->head_permuted = 0;
    return MIL_OK;
}

/* ---- finding NaN and infinity: all exponent bits set ---- */

static bool piece_nonfinite(const float *x, int64_t n) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        bad |= (uint32_t)((u & 0x7f800000u) == 0x7f800000u);
    }
    return bad != 0;
}

static bool words_nonfinite(const uint16_t *x, int64_t n, uint16_t exponent) {
    unsigned bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= (unsigned)((x[i] & exponent) == exponent);
    return bad != 0;
}

static int64_t first_in_piece(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (piece_nonfinite(x + i, 1)) return i;
    return n;
}

struct convert_job {
    const struct weight_view *v;
    enum dtype t;
    unsigned char *dst; /* NULL: only search */
    _Atomic int64_t first_bad;
};

static void report_bad(struct convert_job *job, int64_t at) {
    int64_t seen = atomic_load(&job->first_bad);
    while ((seen < 0 || at < seen) && !atomic_compare_exchange_weak(&job->first_bad, &seen, at))
        ;
}

static void convert_piece(struct convert_job *job, int64_t row, int64_t col, int64_t n) {
    const struct weight_view *v = job->v;
    float buf[PIECE];
    int64_t at = row * v->cols + col;
    read_piece(v, row, col, n, buf);
    if (piece_nonfinite(buf, n)) report_bad(job, at + first_in_piece(buf, n));
    if (!job->dst) return;
    unsigned char *dst = job->dst + (size_t)at * dtype_size(job->t);
    if (job->t == DT_F32)
        memcpy(dst, buf, (size_t)n * sizeof *buf);
    else
        quant_from_f32(job->t, buf, n, dst);
}

static void convert_rows(void *ctx, int64_t begin, int64_t end) {
    struct convert_job *job = ctx;
    for (int64_t i = begin; i < end; i++)
        for (int64_t col = 0; col < job->v->cols; col += PIECE) {
            int64_t left = job->v->cols - col;
            convert_piece(job, i, col, left < PIECE ? left : PIECE);
        }
}

/* The quick search of 16-bit types: whole rows first, the element only where one is bad. */
static void search_rows(void *ctx, int64_t begin, int64_t end) {
    struct convert_job *job = ctx;
    const struct weight_view *v = job->v;
    uint16_t exponent = v->dtype == DT_BF16 ? 0x7f80 : 0x7c00;
    for (int64_t i = begin; i < end; i++) {
        const void *row = element(v, stored_index(v, v->rows, i), 0);
        if (words_nonfinite(row, v->cols, exponent)) convert_rows(ctx, i, i + 1);
    }
}

/* Blocks: an element is NaN or infinite where a factor of its block is, and then the block's first one is. */
static void search_blocks(void *ctx, int64_t begin, int64_t end) {
    struct convert_job *job = ctx;
    const struct weight_view *v = job->v;
    for (int64_t i = begin; i < end; i++) {
        const void *row = element(v, stored_index(v, v->rows, i), 0);
        int64_t at = dequant_first_nonfinite(v->dtype, row, v->cols);
        if (at >= 0) report_bad(job, i * v->cols + at);
    }
}

static int64_t run_job(struct convert_job *job, parallel_fn fn) {
    int64_t grain = 1 + 65536 / job->v->cols;
    atomic_store(&job->first_bad, -1);
    parallel_for(job->v->rows, grain, fn, job);
    return atomic_load(&job->first_bad);
}

int64_t weight_convert(const struct weight_view *v, enum dtype t, void *dst) {
    struct convert_job job = {.v = v, .t = t, .dst = dst};
    return run_job(&job, convert_rows);
}

int64_t weight_first_nonfinite(const struct weight_view *v) {
    struct convert_job job = {.v = v};
    bool words = (v->dtype == DT_BF16 || v->dtype == DT_F16) && (uintptr_t)v->data % 2 == 0 &&
                 !(v->rows == 1 && v->head_permuted > 0);
    bool blocks = dtype_block_elems(v->dtype) > 1 && !(v->rows == 1 && v->head_permuted > 0);
    return run_job(&job, words ? search_rows : blocks ? search_blocks : convert_rows);
}

static void copy_rows(void *ctx, int64_t begin, int64_t end) {
    struct convert_job *job = ctx;
    const struct weight_view *v = job->v;
    size_t bytes = (size_t)(element(v, 1, 0) - element(v, 0, 0));
    for (int64_t i = begin; i < end; i++)
        memcpy(job->dst + (size_t)i * bytes, element(v, stored_index(v, v->rows, i), 0), bytes);
}

void weight_blocks(const struct weight_view *v, void *dst) {
    struct convert_job job = {.v = v, .dst = dst};
    run_job(&job, copy_rows);
}

void weight_to_f32(const struct weight_view *v, float *dst) {
    weight_convert(v, DT_F32, dst);
}

void weight_to_bf16(const struct weight_view *v, bf16 *dst) {
    weight_convert(v, DT_BF16, dst);
}
