/* SPDX-License-Identifier: Apache-2.0 */
/* attention_tile_tmpl.h - what attention's passes share: blocks and strips of queries, and numbers on their
 * way into a product.
 *
 * A block is some queries of some heads that share a key head: keys and values packed once serve all its
 * rows.  A strip is up to STRIP rows of it, whose scores stay in the first cache level: consecutive queries
 * of one head, or, where the block has one query, its heads.  Rows are read where they lie, or from a packed
 * copy where they must be widened or padded. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum {
    STRIP = 24,              /* rows: a multiple of MICRO_ROWS and of UNIT */
    BLOCK_ROWS = 648,        /* of a block, and what they may take at TILE columns a chunk: */
    BLOCK_AREA = 648 * TILE, /* buffers of this many numbers */
    SEGMENT = KERN_ATTENTION_SEGMENT
};
_Static_assert((int)KERN_ATTENTION_LANES == (int)TILE && STRIP % MICRO_ROWS == 0, "tiles");

static const float LOG2_E = 1.44269504f;

struct block {
    const struct kern_attention *a;
    int64_t query, n;    /* queries [query, query + n) */
    int64_t head, heads; /* of heads [head, head + heads) */
    int64_t width;       /* head_dim, up to whole chunks */
};
struct strip {
    int64_t query, head, n;
    bool by_head;
};

static int64_t vectors_of(int64_t lanes) {
    return (lanes + VL - 1) / VL;
}
static int64_t steps_of(int64_t n) {
    return (n + UNIT - 1) / UNIT;
}
/* Columns of the head in chunk c. */
static int64_t chunk_cols(const struct block *b, int64_t c) {
    return least(TILE, b->a->head_dim - c * TILE);
}
static int64_t block_row(const struct block *b, int64_t head, int64_t query) {
    return (head - b->head) * b->n + query - b->query;
}
/* Position of a strip's first and last row among the keys. */
static int64_t strip_first(const struct block *b, const struct strip *s) {
    return b->a->n_kv - b->a->n_q + s->query;
}
static int64_t strip_last(const struct block *b, const struct strip *s) {
    return strip_first(b, s) + (s->by_head ? 0 : s->n - 1);
}

/* Pieces of n in equal parts of at most `most`, multiples of step. */
static int64_t even_parts(int64_t n, int64_t most, int64_t step) {
    int64_t parts = (n + most - 1) / most;
    if (parts < 1) return step;
    return ((n + parts - 1) / parts + step - 1) / step * step;
}
/* How queries [begin, end) are cut into blocks: heads and queries of each. */
static struct block block_size(const struct kern_attention *a, int64_t begin, int64_t end) {
    int64_t width = kern_attention_lanes(a->head_dim), rows = least(BLOCK_ROWS, BLOCK_AREA / width);
    int64_t heads = even_parts(a->group, rows / STRIP, 1);
    return (struct block){.a = a,
                          .n = even_parts(end - begin, rows / heads / STRIP * STRIP, STRIP),
                          .heads = heads,
                          .width = width};
}

/* ---- rows ---- */

static bool rows_ready(int64_t dim) {
    return sizeof(unit) == sizeof(act) && dim % UNIT == 0;
}
/* Rows of x (q or d_o, of the group's first head) as units, unless they lie so. */
static void block_pack_rows(const struct block *b, const act *x, int64_t ld, unit *out) {
    int64_t dim = b->a->head_dim, steps = steps_of(dim);
    if (rows_ready(dim)) return;
    for (int64_t h = b->head; h < b->head + b->heads; h++)
        for (int64_t i = b->query; i < b->query + b->n; i++, out += steps * UNIT)
            for (int64_t c = 0; c < dim; c += VL * UNIT) {
                vf v = steps_load(x + i * ld + h * dim + c, dim - c);
                real_store_n((float *)(void *)(out + c), v, least(VL, steps - c / UNIT));
            }
}
static struct unit_rows strip_rows(const struct block *b, const struct strip *s, const act *x,
                                   int64_t ld, const unit *packed) {
    int64_t dim = b->a->head_dim, row = steps_of(dim) * UNIT;
    if (!rows_ready(dim))
        return (struct unit_rows){packed + block_row(b, s->head, s->query) * row, row, UNIT};
    return (struct unit_rows){(const unit *)(const void *)(x + s->query * ld + s->head * dim),
                              s->by_head ? dim : ld, UNIT};
}

/* ---- numbers ---- */

/* 2^x for x <= 1, 0 below -150, NaN stays; 1 exactly at 0.
 *
 *   x = n + r exactly, |r| <= 1/2;  2^r = 1 + r P(r), fitted to the least largest relative error: P of
 * degree 5, 2^-28.9, with the roundings under 2 units in the last place; where activations are bf16, of
 * degree 3: 2^-18.4 beside the 2^-9 of their rounding. */
static inline vf vf_exp2(vf x) {
    x = vf_max(vf_set(-160.0f), x);
    vf n = vf_round(x), r = x - n, p;
    if (sizeof(act) == 2) {
        p = vf_fma(vf_set(9.58285294e-3f), r, vf_set(5.59064262e-2f));
        p = vf_fma(p, r, vf_set(0.240240991f));
        p = vf_fma(p, r, vf_set(0.693124175f));
    } else {
        p = vf_fma(vf_set(1.5353362e-4f), r, vf_set(1.3398875e-3f));
        p = vf_fma(p, r, vf_set(9.61843692e-3f));
        p = vf_fma(p, r, vf_set(5.55033237e-2f));
        p = vf_fma(p, r, vf_set(0.240226477f));
        p = vf_fma(p, r, vf_set(0.693147182f));
    }
    return vf_ldexp(vf_fma(p, r, vf_set(1.0f)), n);
}

/* The largest lane; none is NaN. */
static inline float vf_largest(vf x) {
#if defined(__AVX512F__)
    __m512d high = _mm512_castps_pd(x);
    __m256 eight =
        _mm256_max_ps(_mm512_castps512_ps256(x), _mm256_castpd_ps(_mm512_extractf64x4_pd(high, 1)));
#else
    __m256 eight = x;
#endif
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* ---- sums on their way into the next product ---- */

#ifdef KERN_PAIRS
/* Two vectors of a row. */
static inline void units_store(unit *to, vf a, vf b) {
    _mm512_storeu_si512((void *)to, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}
static inline void unit_store(unit *to, vf a) {
    _mm256_storeu_si256((__m256i *)(void *)to, (__m256i)_mm512_cvtneps_pbh(a));
}
/* UNIT rows, side by side in a step. */
static inline void units_store_turned(unit *to, const vf rows[UNIT]) {
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(rows[1], rows[0]);
    _mm512_storeu_si512((void *)to, _mm512_permutexvar_epi16(order, both));
}
#else
static inline void units_store(unit *to, vf a, vf b) {
    vf_store(to, a);
    vf_store(to + VL, b);
}
static inline void unit_store(unit *to, vf a) {
    vf_store(to, a);
}
static inline void units_store_turned(unit *to, const vf rows[UNIT]) {
    vf_store(to, rows[0]);
}
#endif
