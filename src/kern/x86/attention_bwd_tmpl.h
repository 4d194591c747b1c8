/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bwd_tmpl.h - the backward pass of attention in tiles; equations in
 * kern/ref/attention_bwd_tmpl.h, layout in attention_tmpl.h.
 *
 * For dq a lane is a query, as forward.  For dk and dv a lane is a key and the rows of a tile are
 * queries, so that again each lane owns its sums.  Tiles of queries in the sweep over keys start at
 * multiples of 64, and a query that does not see a key enters as P = dS = 0. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

struct attention_bwd_tile {
    /* What lanes own, transposed: (q, d_o) or (k, v), and the sums dq or (dk, dv). */
    _Alignas(64) float xt[KERN_MAX_HEAD_DIM * TILE], yt[KERN_MAX_HEAD_DIM * TILE];
    _Alignas(64) float dx[KERN_MAX_HEAD_DIM * TILE], dy[KERN_MAX_HEAD_DIM * TILE];
    /* The other side's rows: (k, v) or (q, d_o). */
    _Alignas(64) float r[TILE * KERN_MAX_HEAD_DIM], w[TILE * KERN_MAX_HEAD_DIM];
    _Alignas(64) float p[TILE * TILE], ds[TILE * TILE];
    _Alignas(64) float lse[TILE], delta[TILE];
};

static void attention_delta(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        const act *d_o = (const act *)a->d_o + i * a->ld_do, *o = (const act *)a->o + i * a->ldo;
        vf sum = vf_set(0);
        for (int64_t c = 0; c < a->head_dim; c += VL) {
            int64_t n = lanes_left(c, a->head_dim);
            sum = vf_fma(act_load_n(d_o + c, n), act_load_n(o + c, n), sum);
        }
        ((float *)a->delta)[i * a->ld_delta] = vf_sum(sum);
    }
}

/* lse and delta of queries [begin, begin + n), with strides taken out; 0 beyond. */
static void rows_stats(const struct kern_attention *a, int64_t head, int64_t begin, int64_t n,
                       struct attention_bwd_tile *t) {
    for (int64_t i = 0; i < TILE; i++) {
        int64_t q = begin + i;
        t->lse[i] = i < n ? ((const float *)a->lse)[q * a->ld_lse + head] : 0.0f;
        t->delta[i] = i < n ? ((const float *)a->delta)[q * a->ld_delta + head] : 0.0f;
    }
}

/* ---- dq: lanes are queries ---- */

/* p from scores to P, then ds from dP to dS; lane i has lse[i] and delta[i]. */
static void lanes_gradient(struct attention_bwd_tile *t, int64_t rows, int64_t vectors) {
    for (int64_t v = 0; v < vectors; v++) {
        vf lse = vf_load(t->lse + v * VL), delta = vf_load(t->delta + v * VL);
        for (int64_t j = 0; j < rows; j++) {
            int64_t at = j * TILE + v * VL;
            vf p = vf_exp(vf_load(t->p + at) - lse);
            vf_store(t->ds + at, p * (vf_load(t->ds + at) - delta));
        }
    }
}

static void attention_bwd_q_tile(const struct kern_attention *a, int64_t begin, int64_t n) {
    struct attention_bwd_tile t;
    int64_t dim = a->head_dim, vectors = (n + VL - 1) / VL, first, past;
    rows_load_transposed((const act *)a->q + begin * a->ldq, a->ldq, n, dim, (float)a->scale, t.xt);
    rows_load_transposed((const act *)a->d_o + begin * a->ld_do, a->ld_do, n, dim, 1.0f, t.yt);
    memset(t.dx, 0, (size_t)dim * TILE * sizeof *t.dx);
    rows_stats(a, 0, begin, n, &t);
    tile_keys(a, begin, n, &first, &past);
    for (int64_t j = first; j < past; j += TILE) {
        int64_t keys = least(TILE, past - j);
        rows_load((const act *)a->k + j * a->ldk, a->ldk, keys, dim, t.r);
        rows_load((const act *)a->v + j * a->ldv, a->ldv, keys, dim, t.w);
        tile_product(vectors, keys, dim, (struct strided){t.r, dim, 1}, t.xt, t.p, false);
        tile_product(vectors, keys, dim, (struct strided){t.w, dim, 1}, t.yt, t.ds, false);
        lanes_gradient(&t, keys, vectors);
        if (!tile_is_whole(a, begin, vectors * VL, j, j + keys))
            tile_mask(a, begin, j, keys, vectors, 0.0f, t.ds);
        tile_product(vectors, dim, keys, (struct strided){t.r, 1, dim}, t.ds, t.dx, true);
    }
    float scale[TILE];
    for (int i = 0; i < TILE; i++) scale[i] = (float)a->scale;
    rows_store_transposed(t.dx, scale, n, dim, (act *)a->dq + begin * a->ld_dq, a->ld_dq);
}

static void attention_bwd_q(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += TILE) attention_bwd_q_tile(a, i, least(TILE, end - i));
}

/* ---- dk, dv: lanes are keys ---- */

/* Row i (query q0 + i), lane (key k0 + lane): P and dS, zero where the query does not see the
 * key. */
static void rows_gradient(const struct kern_attention *a, struct attention_bwd_tile *t, int64_t q0,
                          int64_t rows, int64_t k0, int64_t vectors) {
    int64_t window = a->window > 0 ? a->window : a->n_kv;
    vf zero = vf_set(0);
    for (int64_t i = 0; i < rows; i++) {
        int64_t position = a->n_kv - a->n_q + q0 + i;
        vi last = vi_set((int32_t)(position - k0)),
           first = vi_set((int32_t)(position - k0 - window + 1));
        vf lse = vf_set(t->lse[i]), delta = vf_set(t->delta[i]);
        for (int64_t v = 0; v < vectors; v++) {
            int64_t at = i * TILE + v * VL;
            vi lane = vi_add(vi_set((int32_t)(v * VL)), vi_iota());
            vf p = vf_exp(vf_load(t->p + at) - lse), ds = p * (vf_load(t->ds + at) - delta);
            vf_store(t->p + at, vf_keep_between(p, zero, lane, first, last));
            vf_store(t->ds + at, vf_keep_between(ds, zero, lane, first, last));
        }
    }
}

/* What queries [q0, q0 + rows) of one head of the group add to keys from k0 on. */
static void tile_to_keys(const struct kern_attention *a, struct attention_bwd_tile *t, int64_t head,
                         int64_t q0, int64_t rows, int64_t k0, int64_t vectors) {
    int64_t dim = a->head_dim, column = head * dim;
    rows_load((const act *)a->q + q0 * a->ldq + column, a->ldq, rows, dim, t->r);
    rows_load((const act *)a->d_o + q0 * a->ld_do + column, a->ld_do, rows, dim, t->w);
    rows_stats(a, head, q0, rows, t);
    tile_product(vectors, rows, dim, (struct strided){t->r, dim, 1}, t->xt, t->p, false);
    tile_product(vectors, rows, dim, (struct strided){t->w, dim, 1}, t->yt, t->ds, false);
    rows_gradient(a, t, q0, rows, k0, vectors);
    tile_product(vectors, dim, rows, (struct strided){t->r, 1, dim}, t->ds, t->dx, true);
    tile_product(vectors, dim, rows, (struct strided){t->w, 1, dim}, t->p, t->dy, true);
}

static void attention_bwd_kv_tile(const struct kern_attention *a, int64_t begin, int64_t n) {
    struct attention_bwd_tile t;
    int64_t dim = a->head_dim, vectors = (n + VL - 1) / VL, offset = a->n_kv - a->n_q;
    rows_load_transposed((const act *)a->k + begin * a->ldk, a->ldk, n, dim, (float)a->scale, t.xt);
    rows_load_transposed((const act *)a->v + begin * a->ldv, a->ldv, n, dim, 1.0f, t.yt);
    memset(t.dx, 0, (size_t)dim * TILE * sizeof *t.dx);
    memset(t.dy, 0, (size_t)dim * TILE * sizeof *t.dy);
    /* Queries from the first that sees key `begin` to the last that sees key begin + n - 1. */
    int64_t first = begin > offset ? (begin - offset) / TILE * TILE : 0, past = a->n_q;
    if (a->window > 0) past = least(past, begin + n - 1 + a->window - offset);
    for (int64_t head = 0; head < a->group; head++)
        for (int64_t q0 = first; q0 < past; q0 += TILE)
            tile_to_keys(a, &t, head, q0, least(TILE, a->n_q - q0), begin, vectors);
    float scale[TILE], one[TILE];
    for (int i = 0; i < TILE; i++) {
        scale[i] = (float)a->scale;
        one[i] = 1.0f;
    }
    rows_store_transposed(t.dx, scale, n, dim, (act *)a->dk + begin * a->ld_dk, a->ld_dk);
    rows_store_transposed(t.dy, one, n, dim, (act *)a->dv + begin * a->ld_dv, a->ld_dv);
}

static void attention_bwd_kv(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += TILE) attention_bwd_kv_tile(a, i, least(TILE, end - i));
}
