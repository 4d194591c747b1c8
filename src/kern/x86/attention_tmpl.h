/* SPDX-License-Identifier: Apache-2.0 */
/* attention_tmpl.h - attention forward.
 *
 * Nothing of size T^2 exists (Milakov and Gimelshein 2018; Dao et al. 2022).  For each block of queries and
 * each segment of 256 keys, packed once for the block:
 *
 *     k  [tile][step][64]    keys turned: a lane is a key       s [tile][row][64] = Q K^T
 *     v  [chunk][step][64]   a lane is a column                 p [row][256] = 2^(c s - top), top its row's
 *     part [chunk][row][64] = P V                               maximum within the segment; sum over lanes
 *
 * and the segments of a row are joined in order.  A row's numbers come from its own scores by operations
 * that are the same whatever rows share the strip; keys it does not see enter as exact zeros.  So a query's
 * bits depend neither on the cut nor on other queries, and segments may be computed by different threads
 * (attention_part, attention_join). */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif
#include "kern/x86/attention_tile_tmpl.h"

/* The maximum of a row that has seen no key; finite, so that 2^(x - it) of an unseen key's x = -infinity is 0. */
static const float NO_TOP = -3.4028235e38f;

struct attention_fwd_tile {
    _Alignas(64) unit k[SEGMENT * KERN_MAX_HEAD_DIM], v[SEGMENT * KERN_MAX_HEAD_DIM];
    _Alignas(64) unit q[BLOCK_AREA], p[STRIP * SEGMENT];
    _Alignas(64) float s[STRIP * SEGMENT], part[STRIP * KERN_MAX_HEAD_DIM];
    _Alignas(64) float total[BLOCK_AREA];
    float top[BLOCK_ROWS], sum[BLOCK_ROWS], part_top[STRIP], part_sum[STRIP];
};

static void segment_pack(const struct block *b, int64_t j0, int64_t keys,
                         struct attention_fwd_tile *t) {
    const struct kern_attention *a = b->a;
    const act *k = (const act *)a->k + j0 * a->ldk, *v = (const act *)a->v + j0 * a->ldv;
    int64_t tile = steps_of(a->head_dim) * TILE * UNIT;
    for (int64_t j = 0; j < keys; j += TILE)
        pack_turned(k + j * a->ldk, a->ldk, least(TILE, keys - j), a->head_dim,
                    t->k + j / TILE * tile);
    for (int64_t c = 0; c * TILE < a->head_dim; c++)
        pack_straight(v + c * TILE, a->ldv, keys, chunk_cols(b, c), t->v + c * SEGMENT * TILE,
                      TILE);
}

/* ---- one strip and one segment ---- */

/* Which of a segment's keys a strip sees: vectors [begin, end) of them, up to key `past`; begin is where a tile and a
 * chain of P V begin. */
struct seen {
    int64_t begin, end, past;
    bool masked; /* not every row sees all of them */
};
static struct seen strip_seen(const struct block *b, const struct strip *s, int64_t j0,
                              int64_t keys) {
    int64_t first = strip_first(b, s), last = strip_last(b, s), window = b->a->window;
    int64_t past = least(keys, last + 1 - j0), begin = 0, whole = UNIT == 1 ? CHAIN : TILE;
    if (window > 0 && first - window + 1 > j0) begin = (first - window + 1 - j0) / whole * whole;
    if (past <= begin) return (struct seen){0};
    struct seen out = {begin / VL, vectors_of(past), past, false};
    out.masked = first < j0 + out.end * VL - 1 || (window > 0 && last - window + 1 > j0 + begin);
    return out;
}

/* A row of scores, tiles of 64 keys `tile` apart, and where its P goes. */
struct score_row {
    const float *s;
    int64_t tile;
    unit *p;
    float *top, *sum;
};
static inline const float *score_at(const struct score_row *row, int64_t v) {
    return row->s + v / TILE_VECTORS * row->tile + v % TILE_VECTORS * VL;
}

/* From scores to P: keys [first, last] of the segment are seen, if masked. */
static inline __attribute__((always_inline)) void row_softmax(struct score_row row,
                                                              struct seen seen, float c,
                                                              bool masked, int64_t first,
                                                              int64_t last) {
    vf none = vf_set(-INFINITY), tops = none, sum = vf_set(0), scale = vf_set(c);
    vi from = vi_set((int32_t)first), to = vi_set((int32_t)last);
    for (int64_t v = seen.begin; v < seen.end; v++) {
        vf x = vf_load(score_at(&row, v));
        if (masked)
            x = vf_keep_between(x, none, vi_add(vi_set((int32_t)(v * VL)), vi_iota()), from, to);
        tops = vf_max(x, tops);
    }
    float top = vf_largest(tops) * c;
    if (!(top > NO_TOP)) top = NO_TOP;
    vf base = vf_set(-top);
    for (int64_t v = seen.begin; v < seen.end; v += 2) {
        vf pair[2];
        for (int64_t w = v; w < v + 2; w++) {
            vf x = w < seen.end ? vf_load(score_at(&row, w)) : none;
            if (masked)
                x = vf_keep_between(x, none, vi_add(vi_set((int32_t)(w * VL)), vi_iota()), from,
                                    to);
            pair[w - v] = vf_exp2(vf_fma(x, scale, base));
            sum = sum + pair[w - v];
        }
        units_store(row.p + v * VL, pair[0], pair[1]);
    }
    *row.top = top;
    *row.sum = vf_sum(sum);
}
/* The same for a query at `position`, the segment's first key at j0. */
static void masked_softmax(const struct kern_attention *a, struct score_row row, struct seen seen,
                           int64_t position, int64_t j0) {
    int64_t last = position - j0, first = 0;
    if (a->window > 0 && last + 1 > a->window) first = last + 1 - a->window;
    row_softmax(row, seen, (float)a->scale * LOG2_E, true, first, last);
}

static void strip_softmax(const struct block *b, const struct strip *s, struct seen seen,
                          int64_t j0, struct attention_fwd_tile *t) {
    float c = (float)b->a->scale * LOG2_E;
    for (int64_t r = 0; r < s->n; r++) {
        struct score_row row = {t->s + r * TILE, STRIP * TILE, t->p + r * SEGMENT, &t->part_top[r],
                                &t->part_sum[r]};
        if (seen.masked)
            masked_softmax(b->a, row, seen, strip_first(b, s) + (s->by_head ? 0 : r), j0);
        else
            row_softmax(row, seen, c, false, 0, 0);
    }
}

/* part_top, part_sum and part of a strip over a segment that it sees some of. */
static void strip_segment(const struct block *b, const struct strip *s, struct seen seen,
                          int64_t j0, struct attention_fwd_tile *t) {
    const struct kern_attention *a = b->a;
    struct unit_rows q = strip_rows(b, s, a->q, a->ldq, t->q);
    int64_t steps = steps_of(a->head_dim), begin = seen.begin * VL;
    for (int64_t j = begin; j < seen.past; j += TILE)
        product_units(least(TILE_VECTORS, seen.end - j / VL), s->n, steps, q,
                      t->k + j * steps * UNIT, t->s + j * STRIP, false);
    strip_softmax(b, s, seen, j0, t);
    struct unit_rows p = {t->p + begin, SEGMENT, UNIT};
    for (int64_t c = 0; c * TILE < a->head_dim; c++)
        product_units(vectors_of(chunk_cols(b, c)), s->n, steps_of(seen.past - begin), p,
                      t->v + (c * SEGMENT + begin) * TILE, t->part + c * STRIP * TILE, false);
}

/* ---- joining segments ---- */

/* A row's state so far takes up a segment's; chunks of `part` lie `stride` apart, those of total together. */
static void row_join(float *top, float *sum, float *total, int64_t dim, float part_top,
                     float part_sum, const float *part, int64_t stride) {
    if (part_top == NO_TOP && part_sum == 0) return;
    if (*top == NO_TOP && *sum == 0) {
        *top = part_top;
        *sum = part_sum;
        for (int64_t c = 0; c < dim; c += TILE)
            memcpy(total + c, part + c / TILE * stride, TILE * sizeof *total);
        return;
    }
    float now = *top > part_top ? *top : part_top;
    vf old = vf_exp2(vf_set(*top - now)), add = vf_exp2(vf_set(part_top - now));
    for (int64_t c = 0; c < dim; c += VL) {
        const float *from = part + c / TILE * stride + c % TILE;
        vf_store(total + c, vf_fma(vf_load(from), add, vf_load(total + c) * old));
    }
    float lanes[VL];
    vf_store(lanes, vf_fma(vf_set(part_sum), add, vf_set(*sum) * old));
    *sum = lanes[0];
    *top = now;
}

/* o and lse of a query of a head. */
static void row_finish(const struct kern_attention *a, int64_t head, int64_t query, float top,
                       float sum, const float *total) {
    act *o = (act *)a->o + query * a->ldo + head * a->head_dim;
    vf weight = vf_set(1.0f / sum);
    for (int64_t c = 0; c < a->head_dim; c += VL)
        act_store_n(o + c, vf_load(total + c) * weight, lanes_left(c, a->head_dim));
    if (a->lse)
        ((float *)a->lse)[query * a->ld_lse + head] =
            (float)((double)top * 0.69314718055994531 + log((double)sum));
}

static void strip_join(const struct block *b, const struct strip *s, struct attention_fwd_tile *t) {
    for (int64_t r = 0; r < s->n; r++) {
        int64_t row = block_row(b, s->head, s->query) + r;
        row_join(&t->top[row], &t->sum[row], t->total + row * b->width, b->a->head_dim,
                 t->part_top[r], t->part_sum[r], t->part + r * TILE, STRIP * TILE);
    }
}

/* ---- blocks ---- */

/* Strip `index` of a block, false past the last. */
static bool strip_at(const struct block *b, int64_t index, struct strip *s) {
    *s = (struct strip){.query = b->query, .head = b->head, .by_head = b->n == 1};
    int64_t strips = (b->n + STRIP - 1) / STRIP;
    if (s->by_head) {
        s->head += index * STRIP;
        s->n = least(STRIP, b->head + b->heads - s->head);
        return s->n > 0;
    }
    s->head += index / strips;
    s->query += index % strips * STRIP;
    s->n = least(STRIP, b->query + b->n - s->query);
    return s->head < b->head + b->heads;
}

/* The segments that a block sees, into its totals. */
static void block_segments(const struct block *b, struct attention_fwd_tile *t) {
    const struct kern_attention *a = b->a;
    int64_t first, past;
    kern_attention_seen(a, b->query, b->query + b->n, &first, &past);
    block_pack_rows(b, a->q, a->ldq, t->q);
    for (int64_t j0 = first / SEGMENT * SEGMENT; j0 < past; j0 += SEGMENT) {
        int64_t keys = least(SEGMENT, past - j0);
        struct strip s;
        segment_pack(b, j0, keys, t);
        for (int64_t n = 0; strip_at(b, n, &s); n++) {
            struct seen seen = strip_seen(b, &s, j0, keys);
            if (seen.past == 0) continue;
            strip_segment(b, &s, seen, j0, t);
            strip_join(b, &s, t);
        }
    }
}

static void attention_fwd(const struct kern_attention *a, int64_t begin, int64_t end) {
    struct attention_fwd_tile t;
    struct block size = block_size(a, begin, end), b = size;
    for (b.head = 0; b.head < a->group; b.head += size.heads)
        for (b.query = begin; b.query < end; b.query += size.n) {
            b.heads = least(size.heads, a->group - b.head);
            b.n = least(size.n, end - b.query);
            for (int64_t r = 0; r < b.heads * b.n; r++) {
                t.top[r] = NO_TOP;
                t.sum[r] = 0;
            }
            block_segments(&b, &t);
            for (int64_t h = b.head; h < b.head + b.heads; h++)
                for (int64_t i = b.query; i < b.query + b.n; i++) {
                    int64_t r = block_row(&b, h, i);
                    row_finish(a, h, i, t.top[r], t.sum[r], t.total + r * b.width);
                }
        }
}
