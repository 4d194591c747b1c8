/* SPDX-License-Identifier: Apache-2.0 */
/* fingerprint.c - a short identity of a base model, recorded beside an adapter.
 *
 * XXH3 (128 bits) over, for every module matrix in canonical order: its name with the NUL; rows and
 * cols as int64; 16 runs of 256 values in f32, run k starting at element floor(k (N - 256) / 15) of
 * the N elements in row-major order (all elements where N <= 4096).  Values are taken as the model
 * uses them, so the same values stored in another type, order or file give the same fingerprint. */
#include "core/mem.h"
#include "io/file.h"
#include "model/checkpoint.h"

enum { RUNS = 16, RUN_LENGTH = 256 };

/* Hash elements [begin, begin + n) in row-major order; row is scratch for one row. */
static void add_elements(struct hash *h, const struct weight_view *v, int64_t begin, int64_t n,
                         float *row) {
    while (n > 0) {
        int64_t i = begin / v->cols, col = begin % v->cols;
        int64_t take = v->cols - col < n ? v->cols - col : n;
        weight_row_f32(v, i, row);
        hash_add(h, row + col, (size_t)take * sizeof *row);
        begin += take;
        n -= take;
    }
}

static void add_weight(struct hash *h, const struct weight_view *v, float *row) {
    int64_t n = v->rows * v->cols, shape[2] = {v->rows, v->cols};
    size_t bytes;
    hash_add(h, v->name, strlen(v->name) + 1);
    hash_add(h, shape, sizeof shape);
    if (n <= RUNS * RUN_LENGTH) {
        add_elements(h, v, 0, n, row);
        return;
    }
    bool sized = dtype_bytes(v->dtype, (uint64_t)n, &bytes);
    if (sized) file_scattered(v->data, bytes, true);
    for (int64_t k = 0; k < RUNS; k++)
        add_elements(h, v, k * (n - RUN_LENGTH) / (RUNS - 1), RUN_LENGTH, row);
    if (sized) file_scattered(v->data, bytes, false);
}

enum mil_status checkpoint_fingerprint(const struct checkpoint *c, char out[HASH_HEX],
                                       struct mil_error *err) {
    REQUIRE(c->layers);
    int64_t widest = 0;
    for (int m = 0; m < MODULES; m++) {
        int64_t cols = module_cols(&c->config, (enum module)m);
        widest = cols > widest ? cols : widest;
    }
    float *row = mem_alloc(MEM_OTHER, (size_t)widest, sizeof *row);
    struct hash *h = hash_new();
    enum mil_status st = row && h ? MIL_OK : error_nomem(err, 0);
    for (int64_t l = 0; st == MIL_OK && l < c->config.layers; l++)
        for (int m = 0; m < MODULES; m++) add_weight(h, &c->layers[l].weight[m], row);
    if (st == MIL_OK) hash_hex(h, out);
    hash_free(&h);
    mem_free(row);
    return st;
}
