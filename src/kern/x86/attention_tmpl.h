/* SPDX-License-Identifier: Apache-2.0 */
/* attention_tmpl.h - attention of one head in tiles of 64 queries and 64 keys, forward.
 *
 * Softmax is computed along the way (Milakov and Gimelshein 2018; Dao et al. 2022): per query a
 * running maximum and sum, and an output that is rescaled when the maximum grows; nothing of size
 * T^2 exists.  The layout is chosen so that nothing is ever summed across lanes: a lane is a query.
 *
 *     xt  [D][64]   queries transposed, f32       s [64 keys][64 queries] = K xt, then P
 *     acc [D][64]   output transposed             acc += V^T P
 *
 * Tiles of keys start at multiples of 64 of the key index, and a key that a query does not see
 * enters as P = 0 exactly: a query's result does not depend on which queries share its tile.
 * Tiles that no query of the tile sees are skipped. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

/* rows x D activations as f32 rows of D. */
static void rows_load(const act *x, int64_t ld, int64_t rows, int64_t dim, float *out) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < dim; c += VL) {
            int64_t n = lanes_left(c, dim);
            real_store_n(out + r * dim + c, act_load_n(x + r * ld + c, n), n);
        }
}

/* The same transposed, out[c][r], times scale; lanes past rows are 0. */
static void rows_load_transposed(const act *x, int64_t ld, int64_t rows, int64_t dim, float scale,
                                 float *out) {
    for (int64_t c = 0; c < dim; c += VL) {
        int64_t n = lanes_left(c, dim);
        for (int64_t r = 0; r < TILE; r++) {
            float lanes[VL];
            vf v = vf_set(0);
            if (r < rows) v = vf_set(scale) * act_load_n(x + r * ld + c, n);
            vf_store(lanes, v);
            for (int64_t i = 0; i < n; i++) out[(c + i) * TILE + r] = lanes[i];
        }
    }
}

/* Rows of out from in[c][r], each column r times scale[r]. */
static void rows_store_transposed(const float *in, const float *scale, int64_t rows, int64_t dim,
                                  act *out, int64_t ld) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < dim; c += VL) {
            int64_t n = lanes_left(c, dim);
            float lanes[VL] = {0};
            for (int64_t i = 0; i < n; i++) lanes[i] = scale[r] * in[(c + i) * TILE + r];
            act_store_n(out + r * ld + c, vf_load(lanes), n);
        }
}

/* The keys that queries [begin, begin + n) see together: [*first, *past), *first cut down to a
 * tile's start. */
static void tile_keys(const struct kern_attention *a, int64_t begin, int64_t n, int64_t *first,
                      int64_t *past) {
    int64_t offset = a->n_kv - a->n_q, low = offset + begin + 1 - a->window;
    *past = offset + begin + n;
    *first = a->window > 0 && low > 0 ? low / TILE * TILE : 0;
}

/* Does every one of queries [begin, begin + n) see every key of [j0, j1)? */
static bool tile_is_whole(const struct kern_attention *a, int64_t begin, int64_t n, int64_t j0,
                          int64_t j1) {
    int64_t offset = a->n_kv - a->n_q;
    bool behind = a->window > 0 && offset + begin + n - a->window > j0;
    return j1 - 1 <= offset + begin && !behind;
}

/* s[j][i] = other where query begin + i does not see key j0 + j. */
static void tile_mask(const struct kern_attention *a, int64_t begin, int64_t j0, int64_t keys,
                      int64_t vectors, float other, float *s) {
    int64_t window = a->window > 0 ? a->window : INT32_MAX;
    for (int64_t j = 0; j < keys; j++)
        for (int64_t v = 0; v < vectors; v++) {
            /* Position of lane i less that of key j: seen where 0 <= difference < window. */
            int64_t difference = a->n_kv - a->n_q + begin + v * VL - (j0 + j);
            vi index = vi_add(vi_set((int32_t)difference), vi_iota());
            float *p = s + j * TILE + v * VL;
            vf x = vf_keep_between(vf_load(p), vf_set(other), index, vi_set(0),
                                   vi_set((int32_t)least(window - 1, INT32_MAX)));
            vf_store(p, x);
        }
}

struct attention_tile {
    _Alignas(64) float xt[KERN_MAX_HEAD_DIM * TILE], acc[KERN_MAX_HEAD_DIM * TILE];
    _Alignas(64) float k[TILE * KERN_MAX_HEAD_DIM], v[TILE * KERN_MAX_HEAD_DIM], s[TILE * TILE];
    _Alignas(64) float top[TILE], sum[TILE];
};

/* s from scores to exp(s - top), with top, sum and acc brought up to date. */
static void tile_softmax(struct attention_tile *t, int64_t keys, int64_t dim, int64_t vectors) {
    for (int64_t v = 0; v < vectors; v++) {
        vf old = vf_load(t->top + v * VL), top = old;
        for (int64_t j = 0; j < keys; j++) top = vf_max(vf_load(t->s + j * TILE + v * VL), top);
        vf shrink = vf_exp(old - top), sum = vf_load(t->sum + v * VL) * shrink;
        for (int64_t j = 0; j < keys; j++) {
            vf p = vf_exp(vf_load(t->s + j * TILE + v * VL) - top);
            vf_store(t->s + j * TILE + v * VL, p);
            sum = sum + p;
        }
        vf_store(t->top + v * VL, top);
        vf_store(t->sum + v * VL, sum);
        for (int64_t c = 0; c < dim; c++) {
            float *p = t->acc + c * TILE + v * VL;
            vf_store(p, vf_load(p) * shrink);
        }
    }
}

/* Up to TILE queries from begin. */
static void attention_fwd_tile(const struct kern_attention *a, int64_t begin, int64_t n) {
    struct attention_tile t;
    int64_t dim = a->head_dim, vectors = (n + VL - 1) / VL, first, past;
    rows_load_transposed((const act *)a->q + begin * a->ldq, a->ldq, n, dim, (float)a->scale, t.xt);
    memset(t.acc, 0, (size_t)dim * TILE * sizeof *t.acc);
    for (int i = 0; i < TILE; i++) {
        t.top[i] = -3.4028235e38f; /* finite: a lane that has seen no key yet gives P = 0 */
        t.sum[i] = 0;
    }
    tile_keys(a, begin, n, &first, &past);
    for (int64_t j = first; j < past; j += TILE) {
        int64_t keys = least(TILE, past - j);
        rows_load((const act *)a->k + j * a->ldk, a->ldk, keys, dim, t.k);
        rows_load((const act *)a->v + j * a->ldv, a->ldv, keys, dim, t.v);
        tile_product(vectors, keys, dim, (struct strided){t.k, dim, 1}, t.xt, t.s, false);
        if (!tile_is_whole(a, begin, vectors * VL, j, j + keys))
            tile_mask(a, begin, j, keys, vectors, -INFINITY, t.s);
        tile_softmax(&t, keys, dim, vectors);
        tile_product(vectors, dim, keys, (struct strided){t.v, 1, dim}, t.s, t.acc, true);
    }
    for (int64_t i = 0; i < n; i++) {
        if (a->lse)
            ((float *)a->lse)[(begin + i) * a->ld_lse] =
                (float)((double)t.top[i] + log((double)t.sum[i]));
        t.sum[i] = 1.0f / t.sum[i];
    }
    rows_store_transposed(t.acc, t.sum, n, dim, (act *)a->o + begin * a->ldo, a->ldo);
}

static void attention_fwd(const struct kern_attention *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += TILE) attention_fwd_tile(a, i, least(TILE, end - i));
}
