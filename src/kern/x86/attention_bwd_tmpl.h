/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bwd_tmpl.h - attention backward, in one sweep; equations in kern/ref/attention_bwd_tmpl.h.
 *
 * For each block of queries, and each tile of 64 keys that they see, P and dS are computed once, from lse, and
 * enter three products:
 *
 *     s  = Q K^T, dp = dO V^T    a strip at a time; lanes are keys     kt, vt  [step][64 keys]
 *     dq [chunk][row][64]  += dS K      rows of dS                     ks      [chunk][step][64 columns]
 *     dk [chunk][key][64]  += dS^T Q    columns of dS as rows          qs, dos [head][chunk][step][64 columns]
 *     dv [chunk][key][64]  += P^T dO    (st, pt [step][64 keys]) of up to SUB queries
 *
 * dq is complete when the block is done; dk and dv are sums in memory (a->parts) to which blocks add in
 * order, and parts of the queries, which may be computed by different threads, have sums of their own.  All
 * depend on shapes alone. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum {
    SUB = 96,      /* queries that enter dk and dv at once */
    KEY_STEP = 12, /* keys on the diagonal that leave out the same queries */
    PACKED = TILE * KERN_MAX_HEAD_DIM
};

struct attention_bwd_tile {
    _Alignas(64) unit kt[PACKED], vt[PACKED], ks[PACKED];
    _Alignas(64) unit q[BLOCK_AREA], d_o[BLOCK_AREA], qs[BLOCK_AREA], dos[BLOCK_AREA];
    _Alignas(64) float dq[BLOCK_AREA];
    _Alignas(64) float s[STRIP * TILE], dp[STRIP * TILE];
    _Alignas(64) unit ds[STRIP * TILE], pt[SUB * TILE], st[SUB * TILE];
    float lse[BLOCK_ROWS], delta[BLOCK_ROWS]; /* lse times log2 e */
    float *dk, *dv;
    int64_t sums_chunk;
};

/* ---- a block's own ---- */

static float row_delta(const act *x, const act *y, int64_t dim) {
    vf sum = vf_set(0);
    for (int64_t c = 0; c < dim; c += VL) {
        int64_t n = lanes_left(c, dim);
        sum = vf_fma(act_load_n(x + c, n), act_load_n(y + c, n), sum);
    }
    return vf_sum(sum);
}

/* Units of a head's straight panels. */
static int64_t head_panel(const struct block *b) {
    return steps_of(b->n) * UNIT * b->width;
}

static void block_prepare(const struct block *b, struct attention_bwd_tile *t) {
    const struct kern_attention *a = b->a;
    const act *q = a->q, *d_o = a->d_o, *o = a->o;
    int64_t chunk = steps_of(b->n) * UNIT * TILE;
    block_pack_rows(b, q, a->ldq, t->q);
    block_pack_rows(b, d_o, a->ld_do, t->d_o);
    for (int64_t h = b->head; h < b->head + b->heads; h++) {
        int64_t col = h * a->head_dim, panel = (h - b->head) * head_panel(b);
        for (int64_t c = 0; c * TILE < a->head_dim; c++) {
            int64_t at = col + c * TILE;
            pack_straight(q + b->query * a->ldq + at, a->ldq, b->n, chunk_cols(b, c),
                          t->qs + panel + c * chunk, TILE);
            pack_straight(d_o + b->query * a->ld_do + at, a->ld_do, b->n, chunk_cols(b, c),
                          t->dos + panel + c * chunk, TILE);
        }
        for (int64_t i = b->query; i < b->query + b->n; i++) {
            int64_t row = block_row(b, h, i);
            t->lse[row] = ((const float *)a->lse)[i * a->ld_lse + h] * LOG2_E;
            t->delta[row] = row_delta(d_o + i * a->ld_do + col, o + i * a->ldo + col, a->head_dim);
        }
    }
    memset(t->dq, 0, (size_t)(b->heads * b->n * b->width) * sizeof *t->dq);
}

static void block_store(const struct block *b, const struct attention_bwd_tile *t) {
    const struct kern_attention *a = b->a;
    vf scale = vf_set((float)a->scale);
    for (int64_t h = b->head; h < b->head + b->heads; h++)
        for (int64_t i = b->query; i < b->query + b->n; i++) {
            act *out = (act *)a->dq + i * a->ld_dq + h * a->head_dim;
            int64_t row = block_row(b, h, i), rows = b->heads * b->n;
            for (int64_t c = 0; c < a->head_dim; c += VL) {
                vf x = vf_load(t->dq + (c / TILE * rows + row) * TILE + c % TILE);
                act_store_n(out + c, x * scale, lanes_left(c, a->head_dim));
            }
        }
}

/* ---- one strip and one tile of keys ---- */

/* Rows r .. r + UNIT - 1 of a strip (those below n) from scores to P and dS, for `vectors` of the keys, zeros
 * beyond; lanes outside of [first, first + window) + (0 .. UNIT - 1) are not seen, if masked. */
static inline __attribute__((always_inline)) void
rows_gradient(struct attention_bwd_tile *t, int64_t r, int64_t n, int64_t row, unit *pt, unit *st,
              int64_t vectors, float c, bool masked, int64_t last, int64_t window) {
    vf zero = vf_set(0), scale = vf_set(c);
    for (int64_t v = 0; v < TILE_VECTORS; v++) {
        vf p[UNIT], ds[UNIT];
        for (int u = 0; u < UNIT; u++) {
            int64_t at = (r + u) * TILE + v * VL;
            p[u] = ds[u] = zero;
            if (v < vectors && r + u < n) {
                vf x = vf_fma(vf_load(t->s + at), scale, vf_set(-t->lse[row + u]));
                p[u] = vf_exp2(x);
                ds[u] = p[u] * (vf_load(t->dp + at) - vf_set(t->delta[row + u]));
            }
            if (masked) {
                vi lane = vi_add(vi_set((int32_t)(v * VL)), vi_iota()),
                   to = vi_set((int32_t)(last + u)),
                   from = vi_set((int32_t)(last + u - window + 1));
                p[u] = vf_keep_between(p[u], zero, lane, from, to);
                ds[u] = vf_keep_between(ds[u], zero, lane, from, to);
            }
            unit_store(t->ds + at, ds[u]);
        }
        units_store_turned(pt + v * VL * UNIT, p);
        units_store_turned(st + v * VL * UNIT, ds);
    }
}

/* P and dS of a strip, `sub` rows into the queries that enter dk and dv together, and what it adds to dq. */
static void strip_gradient(const struct block *b, const struct strip *s, int64_t sub, int64_t j0,
                           int64_t keys, struct attention_bwd_tile *t) {
    const struct kern_attention *a = b->a;
    int64_t first = strip_first(b, s), row = block_row(b, s->head, s->query), dim = a->head_dim;
    int64_t seen = least(keys, first + s->n - j0), vectors = vectors_of(seen);
    int64_t window = a->window > 0 ? a->window : INT32_MAX / 2;
    product_units(vectors, s->n, steps_of(dim), strip_rows(b, s, a->q, a->ldq, t->q), t->kt, t->s,
                  false);
    product_units(vectors, s->n, steps_of(dim), strip_rows(b, s, a->d_o, a->ld_do, t->d_o), t->vt,
                  t->dp, false);
    float c = (float)a->scale * LOG2_E;
    bool masked = first < j0 + vectors * VL - 1 || first + s->n - window > j0;
    for (int64_t r = 0; r < s->n; r += UNIT) {
        unit *pt = t->pt + (sub + r) * TILE, *st = t->st + (sub + r) * TILE;
        if (masked)
            rows_gradient(t, r, s->n, row + r, pt, st, vectors, c, true, first + r - j0, window);
        else
            rows_gradient(t, r, s->n, row + r, pt, st, vectors, c, false, 0, 0);
    }
    struct unit_rows ds = {t->ds, TILE, UNIT};
    for (int64_t i = 0; i * TILE < dim; i++)
        product_units(vectors_of(chunk_cols(b, i)), s->n, steps_of(seen), ds,
                      t->ks + i * TILE * TILE, t->dq + (i * b->heads * b->n + row) * TILE, true);
}

/* c [keys][vectors] += (at: steps of queries, turned) (panel: the same steps); key k is first seen by query
 * late + k of them. */
static void add_to_keys(int64_t vectors, int64_t keys, int64_t steps, const unit *at,
                        const unit *panel, int64_t late, float *c) {
    int64_t group = late + keys > UNIT ? KEY_STEP : keys;
    for (int64_t k = 0; k < keys; k += group) {
        int64_t skip = late + k > 0 ? (late + k) / UNIT : 0;
        if (skip >= steps) return;
        struct unit_rows rows = {at + (skip * TILE + k) * UNIT, UNIT, TILE * UNIT};
        product_units(vectors, least(group, keys - k), steps - skip, rows,
                      panel + skip * TILE * UNIT, c + k * TILE, true);
    }
}

/* Queries [begin, end) of the block (begin a multiple of UNIT) and one head meet a tile of keys. */
static void sub_gradient(const struct block *b, int64_t head, int64_t begin, int64_t end,
                         int64_t j0, int64_t keys, struct attention_bwd_tile *t) {
    const struct kern_attention *a = b->a;
    struct strip s = {.head = head};
    for (int64_t i = begin; i < end; i += STRIP) {
        s.query = b->query + i;
        s.n = least(STRIP, end - i);
        strip_gradient(b, &s, i - begin, j0, keys, t);
    }
    int64_t steps = steps_of(end - begin), late = j0 - (a->n_kv - a->n_q + b->query + begin);
    int64_t chunk = steps_of(b->n) * UNIT * TILE,
            at = (head - b->head) * head_panel(b) + begin * TILE;
    for (int64_t c = 0; c * TILE < a->head_dim; c++, at += chunk) {
        int64_t vectors = vectors_of(chunk_cols(b, c)), sums = c * t->sums_chunk + j0 * TILE;
        add_to_keys(vectors, keys, steps, t->pt, t->dos + at, late, t->dv + sums);
        add_to_keys(vectors, keys, steps, t->st, t->qs + at, late, t->dk + sums);
    }
}

static void tile_pack(const struct block *b, int64_t j0, int64_t keys,
                      struct attention_bwd_tile *t) {
    const struct kern_attention *a = b->a;
    const act *k = (const act *)a->k + j0 * a->ldk, *v = (const act *)a->v + j0 * a->ldv;
    pack_turned(k, a->ldk, keys, a->head_dim, t->kt);
    pack_turned(v, a->ldv, keys, a->head_dim, t->vt);
    for (int64_t c = 0; c * TILE < a->head_dim; c++)
        pack_straight(k + c * TILE, a->ldk, keys, chunk_cols(b, c), t->ks + c * TILE * TILE, TILE);
}

static void block_gradient(const struct block *b, struct attention_bwd_tile *t) {
    const struct kern_attention *a = b->a;
    int64_t first, past,
        offset = a->n_kv - a->n_q + b->query; /* position of the block's first query */
    kern_attention_seen(a, b->query, b->query + b->n, &first, &past);
    block_prepare(b, t);
    for (int64_t j = first / TILE * TILE; j < past; j += TILE) {
        int64_t keys = least(TILE, past - j), end = b->n;
        int64_t begin = j > offset ? (j - offset) / UNIT * UNIT : 0;
        if (a->window > 0) end = least(end, j + keys - 1 + a->window - offset);
        int64_t sub = even_parts(end - begin, SUB, STRIP);
        tile_pack(b, j, keys, t);
        for (int64_t h = b->head; h < b->head + b->heads; h++)
            for (int64_t i = begin; i < end; i += sub)
                sub_gradient(b, h, i, least(end, i + sub), j, keys, t);
    }
    block_store(b, t);
}

/* ---- parts ---- */

/* A part's sums, and the keys it sees in whole tiles. */
static float *part_sums(const struct kern_attention *a, int64_t part, int64_t *first,
                        int64_t *past) {
    int64_t begin = part * a->part_queries, end = least(a->n_q, begin + a->part_queries);
    kern_attention_seen(a, begin, end, first, past);
    *first = *first / TILE * TILE;
    return (float *)a->parts + part * kern_attention_sums(a->n_kv, a->head_dim);
}

static void attention_bwd(const struct kern_attention *a, int64_t begin, int64_t end) {
    struct attention_bwd_tile t;
    t.sums_chunk = kern_attention_lanes(a->n_kv) * TILE;
    for (int64_t part = begin; part < end; part++) {
        int64_t first, past, from = part * a->part_queries,
                             to = least(a->n_q, from + a->part_queries);
        struct block size = block_size(a, from, to), b = size;
        t.dk = part_sums(a, part, &first, &past);
        t.dv = t.dk + kern_attention_sums(a->n_kv, a->head_dim) / 2;
        for (int64_t c = 0; c < 2 * b.width / TILE; c++)
            memset(t.dk + c * t.sums_chunk + first * TILE, 0,
                   (size_t)((past - first) * TILE) * sizeof *t.dk);
        for (b.head = 0; b.head < a->group; b.head += size.heads)
            for (b.query = from; b.query < to; b.query += size.n) {
                b.heads = least(size.heads, a->group - b.head);
                b.n = least(size.n, to - b.query);
                block_gradient(&b, &t);
            }
    }
}

/* One row of dk or dv: the parts' sums from `at` on. */
static void key_sum(const struct kern_attention *a, int64_t j, int64_t at, double scale, act *out) {
    float sum[KERN_MAX_HEAD_DIM + VL] = {0};
    int64_t parts = (a->n_q + a->part_queries - 1) / a->part_queries;
    int64_t chunk = kern_attention_lanes(a->n_kv) * TILE;
    for (int64_t p = 0; p < parts; p++) {
        int64_t first, past;
        const float *from = part_sums(a, p, &first, &past) + at + j * TILE;
        if (j < first || j >= past) continue;
        for (int64_t c = 0; c < a->head_dim; c += VL)
            vf_store(sum + c, vf_load(sum + c) + vf_load(from + c / TILE * chunk + c % TILE));
    }
    for (int64_t c = 0; c < a->head_dim; c += VL)
        act_store_n(out + c, vf_load(sum + c) * vf_set((float)scale), lanes_left(c, a->head_dim));
}

static void attention_bwd_kv(const struct kern_attention *a, int64_t begin, int64_t end) {
    int64_t half = kern_attention_sums(a->n_kv, a->head_dim) / 2;
    for (int64_t j = begin; j < end; j++) {
        key_sum(a, j, 0, a->scale, (act *)a->dk + j * a->ld_dk);
        key_sum(a, j, half, 1, (act *)a->dv + j * a->ld_dv);
    }
}
