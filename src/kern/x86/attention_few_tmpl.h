/* SPDX-License-Identifier: Apache-2.0 */
/* attention_few_tmpl.h - a few queries against many keys, which is bound by the reading of keys and values:
 * one segment of keys for all heads of a sequence.
 *
 * Keys are taken 16 at a time, in the order of memory: all heads of a row before the next, while the next rows
 * are fetched into the second cache level.  16 keys by 16 steps are turned in registers
 * (kern/x86/product_few_tmpl.h), and rows of values enter as they lie; nothing is packed.  Each number is the
 * sum of chains that it is in attention_tmpl.h, and has the same bits.
 *
 *     s [tile][row][64], p [row][256], sums and chains [row][columns];   rows: [head][query][head of the group] */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum { FEW_KEYS = 16, HELD_ROWS = 4 };

struct attention_few_tile {
    _Alignas(64) float s[KERN_ATTENTION_FEW * SEGMENT];
    _Alignas(64) float sums[KERN_ATTENTION_FEW * KERN_MAX_HEAD_DIM];
    _Alignas(64) float chains[KERN_ATTENTION_FEW * KERN_MAX_HEAD_DIM]; /* of P V, under way */
    _Alignas(64) unit q[KERN_ATTENTION_FEW * KERN_MAX_HEAD_DIM], p[KERN_ATTENTION_FEW * SEGMENT];
    _Alignas(64) unit panel[TILE * KERN_MAX_HEAD_DIM];
    _Alignas(64) act padded[FEW_KEYS * TILE];
    float top[KERN_ATTENTION_FEW], sum[KERN_ATTENTION_FEW];
};

/* Key heads [head, head + heads) against the keys [j0, j0 + keys) of a segment. */
struct few_set {
    const struct kern_attention *a;
    int64_t head, heads, j0, keys;
};
static int64_t few_row(const struct few_set *x, int64_t head, int64_t query) {
    return ((head - x->head) * x->a->n_q + query) * x->a->group;
}

/* Blocks of FEW_KEYS rows are used in this order: the segment's keys, its values, the next segment's keys.  While
 * a head's part of block n is used, as much of one FETCH_BYTES ahead is asked for, a few lines at a time. */
static uintptr_t few_ahead(const struct few_set *x, int64_t n, int64_t head) {
    enum { FETCH_BYTES = 1 << 14 };
    const struct kern_attention *a = x->a;
    int64_t part = FEW_KEYS * a->head_dim * (int64_t)sizeof(act);
    int64_t blocks = (x->keys + FEW_KEYS - 1) / FEW_KEYS;
    n += 1 + FETCH_BYTES / (x->heads * part);
    bool values = n >= blocks && n < 2 * blocks;
    int64_t row = x->j0 + (n < blocks ? n : n - blocks) * FEW_KEYS;
    uintptr_t at = (uintptr_t)(row * (values ? a->ldv : a->ldk) + x->head * a->head_dim);
    return (uintptr_t)(values ? a->v : a->k) + at * sizeof(act) +
           (uintptr_t)((head - x->head) * part);
}

/* ---- scores ---- */

/* Rows of queries of a key head as units: in place, or from the packed copy. */
static struct unit_rows few_queries(const struct few_set *x, int64_t head, int64_t query,
                                    const unit *packed) {
    const struct kern_attention *a = x->a;
    int64_t dim = a->head_dim, row = steps_of(dim) * UNIT;
    if (!rows_ready(dim)) /* [head of the set and group][query] */
        return (struct unit_rows){packed + ((head - x->head) * a->group * a->n_q + query) * row,
                                  row * a->n_q, UNIT};
    const act *q = (const act *)a->q + query * a->ldq + head * a->group * dim;
    return (struct unit_rows){(const unit *)(const void *)q, dim, UNIT};
}

/* s [m][VL keys]; fetches as many bytes from `next` on as it reads. */
static inline __attribute__((always_inline)) void scores_held(int m, int64_t dim,
                                                              struct unit_rows q, const act *k,
                                                              int64_t ld, uintptr_t next,
                                                              float *s) {
    for (int64_t c = 0, end; c < dim; c = end) {
        vf chain[HELD_ROWS];
        for (int i = 0; i < m; i++) chain[i] = chain_begin(s + i * TILE, c > 0);
        end = least(dim, c + CHAIN);
        for (int64_t from = c; from < end; from += FEW_STEP, q.p += FEW_STEP) {
            vf v[VL];
            few_load(k + from, ld, next, v);
            next += VL * FEW_STEP * sizeof(act);
#pragma GCC unroll 16
            for (int l = 0; l < VL; l++)
                for (int i = 0; i < m; i++)
                    chain[i] = multiply_lanes(q.p + i * q.row + l * UNIT, v[l], chain[i]);
        }
        for (int i = 0; i < m; i++) chain_end(s + i * TILE, chain[i], c > 0);
    }
}

/* Functions of their own, for the registers. */
static __attribute__((noinline)) void scores_1(int64_t dim, struct unit_rows q, const act *k,
                                               int64_t ld, uintptr_t next, float *s) {
    scores_held(1, dim, q, k, ld, next, s);
}
static __attribute__((noinline)) void scores_2(int64_t dim, struct unit_rows q, const act *k,
                                               int64_t ld, uintptr_t next, float *s) {
    scores_held(2, dim, q, k, ld, next, s);
}
static __attribute__((noinline)) void scores_3(int64_t dim, struct unit_rows q, const act *k,
                                               int64_t ld, uintptr_t next, float *s) {
    scores_held(3, dim, q, k, ld, next, s);
}
static __attribute__((noinline)) void scores_4(int64_t dim, struct unit_rows q, const act *k,
                                               int64_t ld, uintptr_t next, float *s) {
    scores_held(4, dim, q, k, ld, next, s);
}

/* m rows of queries against VL rows of keys. */
static void scores_turned(int64_t m, int64_t dim, struct unit_rows q, const act *k, int64_t ld,
                          uintptr_t next, float *s) {
    for (; m > 0; m -= HELD_ROWS, q.p += HELD_ROWS * q.row, s += HELD_ROWS * TILE) switch (m) {
        case 1: scores_1(dim, q, k, ld, next, s); break;
        case 2: scores_2(dim, q, k, ld, next, s); break;
        case 3: scores_3(dim, q, k, ld, next, s); break;
        default: scores_4(dim, q, k, ld, next, s); break;
        }
}

/* Keys [j, j + n) of the segment, one head. */
static void few_scores(const struct few_set *x, int64_t head, int64_t j, int64_t n,
                       struct attention_few_tile *t) {
    const struct kern_attention *a = x->a;
    const act *k = (const act *)a->k + (x->j0 + j) * a->ldk + head * a->head_dim;
    uintptr_t next = few_ahead(x, j / FEW_KEYS, head);
    bool turned = n == FEW_KEYS && a->head_dim % FEW_STEP == 0;
    if (!turned) pack_turned(k, a->ldk, n, a->head_dim, t->panel);
    for (int64_t i = 0; i < a->n_q; i++) {
        struct unit_rows q = few_queries(x, head, i, t->q);
        int64_t row = few_row(x, head, i);
        float *s = t->s + (j / TILE * KERN_ATTENTION_FEW + row) * TILE + j % TILE;
        if (!turned) {
            product_units(vectors_of(n), a->group, steps_of(a->head_dim), q, t->panel, s, false);
            continue;
        }
        for (int64_t l = 0; l < FEW_KEYS; l += VL)
            scores_turned(a->group, a->head_dim, q, k + l * a->ldk, a->ldk,
                          next + (uintptr_t)(l * a->head_dim) * sizeof(act), s + l);
    }
}

static void few_softmax(const struct few_set *x, struct attention_few_tile *t) {
    const struct kern_attention *a = x->a;
    struct seen seen = {0, vectors_of(x->keys), x->keys, true};
    for (int64_t h = x->head; h < x->head + x->heads; h++)
        for (int64_t i = 0; i < a->n_q; i++)
            for (int64_t g = 0; g < a->group; g++) {
                int64_t r = few_row(x, h, i) + g;
                struct score_row row = {t->s + r * TILE, KERN_ATTENTION_FEW * TILE,
                                        t->p + r * SEGMENT, &t->top[r], &t->sum[r]};
                masked_softmax(a, row, seen, a->n_kv - a->n_q + i, x->j0);
            }
}

/* ---- values ---- */

/* Steps of 64 columns of values from the rows where they lie. */
static inline void values_load(const act *v, int64_t ld, vf out[TILE_VECTORS]) {
#ifdef KERN_PAIRS
    const __m512i order =
        _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                         37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i upper = _mm512_add_epi16(order, _mm512_set1_epi16(16));
    for (int i = 0; i < 2; i++) {
        __m512i x = _mm512_loadu_si512((const void *)(v + 32 * i));
        __m512i y = _mm512_loadu_si512((const void *)(v + ld + 32 * i));
        out[2 * i] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(x, order, y));
        out[2 * i + 1] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(x, upper, y));
    }
#else
    (void)ld;
    for (int i = 0; i < TILE_VECTORS; i++) out[i] = act_load(v + i * VL);
#endif
}

/* Where P V goes: rows KERN_MAX_HEAD_DIM apart.  A chain is in `chains` from its first FEW_KEYS keys to its last ones,
 * which move it to `sums`. */
struct few_sums {
    float *chains, *sums;
    bool first, last, add;
};

/* The chains of [m <= HELD_ROWS][64 columns] over FEW_KEYS keys. */
static inline __attribute__((always_inline)) void values_held(int m, struct unit_rows p,
                                                              const act *v, int64_t ld,
                                                              uintptr_t next, struct few_sums to) {
    enum { AT_ONCE = VL == 16 ? 4 : 2, STEP_BYTES = UNIT * TILE * sizeof(act) };
    for (int w = 0; w < TILE_VECTORS; w += AT_ONCE) {
        vf chain[HELD_ROWS][AT_ONCE];
        for (int i = 0; i < m; i++)
            for (int u = 0; u < AT_ONCE; u++) {
                int64_t at = i * KERN_MAX_HEAD_DIM + (w + u) * VL;
                chain[i][u] =
                    to.first ? chain_begin(to.sums + at, to.add) : vf_load(to.chains + at);
            }
        for (int64_t s = 0; s < FEW_KEYS / UNIT; s++) {
            vf x[TILE_VECTORS];
            for (int l = 0; w == 0 && l < STEP_BYTES; l += 64, next += 64)
                __builtin_prefetch((const void *)next, 0, 2);
            values_load(v + s * UNIT * ld, ld, x);
            for (int i = 0; i < m; i++)
                for (int u = 0; u < AT_ONCE; u++)
                    chain[i][u] = multiply_lanes(p.p + i * p.row + s * UNIT, x[w + u], chain[i][u]);
        }
        for (int i = 0; i < m; i++)
            for (int u = 0; u < AT_ONCE; u++) {
                int64_t at = i * KERN_MAX_HEAD_DIM + (w + u) * VL;
                if (to.last)
                    chain_end(to.sums + at, chain[i][u], to.add);
                else
                    vf_store(to.chains + at, chain[i][u]);
            }
    }
}

/* Functions of their own, for the registers. */
static __attribute__((noinline)) void values_1(struct unit_rows p, const act *v, int64_t ld,
                                               uintptr_t next, struct few_sums to) {
    values_held(1, p, v, ld, next, to);
}
static __attribute__((noinline)) void values_2(struct unit_rows p, const act *v, int64_t ld,
                                               uintptr_t next, struct few_sums to) {
    values_held(2, p, v, ld, next, to);
}
static __attribute__((noinline)) void values_3(struct unit_rows p, const act *v, int64_t ld,
                                               uintptr_t next, struct few_sums to) {
    values_held(3, p, v, ld, next, to);
}
static __attribute__((noinline)) void values_4(struct unit_rows p, const act *v, int64_t ld,
                                               uintptr_t next, struct few_sums to) {
    values_held(4, p, v, ld, next, to);
}

/* m rows of P times 64 columns of FEW_KEYS rows of values. */
static void values_straight(int64_t m, struct unit_rows p, const act *v, int64_t ld, uintptr_t next,
                            struct few_sums to) {
    for (; m > 0; m -= HELD_ROWS) {
        switch (m) {
        case 1: values_1(p, v, ld, next, to); break;
        case 2: values_2(p, v, ld, next, to); break;
        case 3: values_3(p, v, ld, next, to); break;
        default: values_4(p, v, ld, next, to); break;
        }
        p.p += HELD_ROWS * p.row;
        to.chains += HELD_ROWS * KERN_MAX_HEAD_DIM;
        to.sums += HELD_ROWS * KERN_MAX_HEAD_DIM;
    }
}

/* n <= FEW_KEYS rows of values and `cols` <= 64 columns, with zeros up to that: P's zeros beyond the last key must meet
 * a number, and reading must end with the rows. */
static const act *values_padded(const act *v, int64_t ld, int64_t n, int64_t cols, act *out) {
    memset(out, 0, FEW_KEYS * TILE * sizeof *out);
    for (int64_t r = 0; r < n; r++) memcpy(out + r * TILE, v + r * ld, (size_t)cols * sizeof *out);
    return out;
}

/* What keys [j, j + n) of the segment add to the sums of one head. */
static void few_values(const struct few_set *x, int64_t head, int64_t j, int64_t n,
                       struct attention_few_tile *t) {
    const struct kern_attention *a = x->a;
    const act *v = (const act *)a->v + (x->j0 + j) * a->ldv + head * a->head_dim;
    int64_t row = few_row(x, head, 0), m = a->n_q * a->group;
    uintptr_t next = few_ahead(x, (x->keys + FEW_KEYS - 1 + j) / FEW_KEYS, head);
    struct unit_rows p = {t->p + row * SEGMENT + j, SEGMENT, UNIT};
    for (int64_t c = 0; c < a->head_dim; c += TILE) {
        int64_t cols = least(TILE, a->head_dim - c), at = row * KERN_MAX_HEAD_DIM + c;
        struct few_sums to = {.chains = t->chains + at,
                              .sums = t->sums + at,
                              .first = j % CHAIN == 0,
                              .last = (j + n) % CHAIN == 0 || j + n == x->keys,
                              .add = j >= CHAIN};
        uintptr_t after = next + (uintptr_t)(c * FEW_KEYS) * sizeof(act);
        if (n == FEW_KEYS && cols == TILE)
            values_straight(m, p, v + c, a->ldv, after, to);
        else
            values_straight(m, p, values_padded(v + c, a->ldv, n, cols, t->padded), TILE, after,
                            to);
    }
}

/* ---- segments ---- */

static void few_keep(const struct few_set *x, int64_t segment, const struct attention_few_tile *t) {
    const struct kern_attention *a = x->a;
    int64_t size = kern_attention_part_row(a->head_dim), heads = a->kv_heads * a->group;
    for (int64_t h = x->head; h < x->head + x->heads; h++)
        for (int64_t i = 0; i < a->n_q; i++)
            for (int64_t g = 0; g < a->group; g++) {
                int64_t r = few_row(x, h, i) + g;
                float *to =
                    (float *)a->parts + ((segment * a->n_q + i) * heads + h * a->group + g) * size;
                to[0] = t->top[r];
                to[1] = t->sum[r];
                memcpy(to + KERN_ATTENTION_STATE, t->sums + r * KERN_MAX_HEAD_DIM,
                       (size_t)a->head_dim * sizeof *to);
            }
}

static void few_segment(const struct few_set *x, int64_t segment, struct attention_few_tile *t) {
    const struct kern_attention *a = x->a;
    int64_t end = x->head + x->heads;
    struct block b = {
        .a = a, .n = a->n_q, .head = x->head * a->group, .heads = x->heads * a->group};
    block_pack_rows(&b, a->q, a->ldq, t->q);
    for (int64_t j = 0; j < x->keys; j += FEW_KEYS)
        for (int64_t h = x->head; h < end; h++) {
            few_scores(x, h, j, least(FEW_KEYS, x->keys - j), t);
        }
    few_softmax(x, t);
    for (int64_t j = 0; j < x->keys; j += FEW_KEYS)
        for (int64_t h = x->head; h < end; h++) {
            few_values(x, h, j, least(FEW_KEYS, x->keys - j), t);
        }
    few_keep(x, segment, t);
}

static void attention_part(const struct kern_attention *a, int64_t begin, int64_t end) {
    struct attention_few_tile t;
    int64_t most = KERN_ATTENTION_FEW / (a->n_q * a->group);
    for (int64_t i = begin; i < end; i++)
        for (int64_t h = 0; h < a->kv_heads; h += most) {
            struct few_set x = {a, h, least(most, a->kv_heads - h), i * SEGMENT, 0};
            x.keys = least(SEGMENT, a->n_kv - x.j0);
            few_segment(&x, i, &t);
        }
}

static void attention_join(const struct kern_attention *a, int64_t begin, int64_t end) {
    float total[KERN_MAX_HEAD_DIM];
    int64_t size = kern_attention_part_row(a->head_dim), heads = a->kv_heads * a->group;
    int64_t segments = (a->n_kv + SEGMENT - 1) / SEGMENT;
    for (int64_t i = begin; i < end; i++)
        for (int64_t h = 0; h < heads; h++) {
            float top = NO_TOP, sum = 0;
            for (int64_t n = 0; n < segments; n++) {
                const float *row = (const float *)a->parts + ((n * a->n_q + i) * heads + h) * size;
                row_join(&top, &sum, total, a->head_dim, row[0], row[1], row + KERN_ATTENTION_STATE,
                         TILE);
            }
            row_finish(a, h, i, top, sum, total);
        }
}
