/* SPDX-License-Identifier: Apache-2.0 */
/* vector_tmpl.h - vectors of activations, whole or the first n lanes; the size of tiles. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

/* A tile of sums is TILE columns wide; MICRO_ROWS x MICRO_VECTORS of them are in registers at once. */
enum { TILE = 64, TILE_VECTORS = TILE / VL, MICRO_VECTORS = VL == 16 ? 4 : 2, MICRO_ROWS = 6 };

static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline vf act_load_n(const act *p, int64_t n) {
    return vf_load_any(ACT_TYPE, p, 0, n);
}
static inline void act_store_n(act *p, vf x, int64_t n) {
    vf_store_any(ACT_TYPE, p, 0, n, x);
}
static inline vf real_load_n(const float *p, int64_t n) {
    return n == VL ? vf_load(p) : vf_load_n(p, n);
}
static inline void real_store_n(float *p, vf x, int64_t n) {
    if (n == VL)
        vf_store(p, x);
    else
        vf_store_n(p, x, n);
}

/* Sums over many rows: f32 within a block of rows, double from block to block. */
enum { SUM_BLOCK = 64, SUM_VECTORS = 4, SUM_COLUMNS = SUM_VECTORS * VL };
static inline void lanes_add(double *total, vf x) {
    float lanes[VL];
    vf_store(lanes, x);
    for (int l = 0; l < VL; l++) total[l] += (double)lanes[l];
}
