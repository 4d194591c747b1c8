/* SPDX-License-Identifier: Apache-2.0 */
/* dequant_tmpl.h - GGUF's blocks as activations, 32 elements at a time: the operand of products whose weights stay
 * as they are stored.  Layouts and equations: kern/ref/dequant.c, docs/formats/gguf.md.
 *
 * Every format here is x = s q (+ m), with q a signed byte, s for 16 elements, m for 32.  s q is exact in f32 wherever
 * m follows (at most 17 + 5 bits), so that a fused multiply-add rounds as the reference does; then one rounding to the
 * activations' type.  What is not 0 is at least 2^-24: no subnormal numbers, which the conversion to bf16 would flush. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum {
    GROUP = 32,
    PIECE_GROUPS = 8,
    BLOCKS_PIECE = GROUP * PIECE_GROUPS
}; /* the piece: of a row, at a time */

/* 32 elements: q in memory order. */
struct group {
    __m128i q[2];
    float scale[2], add;
    bool adds;
};

static inline float f16_at(const unsigned char *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}
static inline __m128i bytes_at(const unsigned char *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
static inline __m128i nibbles(__m128i bytes, int shift) {
    return _mm_and_si128(_mm_srl_epi16(bytes, _mm_cvtsi32_si128(shift)), _mm_set1_epi8(15));
}
/* 16 where bit i of two bytes is set, 0 elsewhere. */
static inline __m128i fifth_bits(const unsigned char *p) {
    int16_t bits;
    memcpy(&bits, p, sizeof bits);
    __m128i byte = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    __m128i lane = _mm_set1_epi64x((long long)0x8040201008040201u);
    __m128i spread = _mm_shuffle_epi8(_mm_set1_epi16(bits), byte);
    __m128i on = _mm_cmpeq_epi8(_mm_and_si128(spread, lane), lane);
    return _mm_and_si128(on, _mm_set1_epi8(16));
}

/* Scale and minimum of group g of Q4_K and Q5_K: see kern/ref/dequant.c. */
static inline void six_bit_pair(const unsigned char *p, int64_t g, int *scale, int *min) {
    *scale = g < 4 ? p[g] & 63 : (p[g + 4] & 15) | p[g - 4] >> 6 << 4;
    *min = g < 4 ? p[g + 4] & 63 : p[g + 4] >> 4 | p[g] >> 6 << 4;
}

static inline struct group group_k45(const unsigned char *b, int64_t g, bool five) {
    int scale, min;
    six_bit_pair(b + 4, g, &scale, &min);
    struct group x = {.adds = true, .add = -(f16_at(b + 2) * (float)min)};
    x.scale[0] = x.scale[1] = f16_at(b) * (float)scale;
    __m128i bit = _mm_set1_epi8((char)(1 << g));
    for (int i = 0; i < 2; i++) {
        const unsigned char *low = b + (five ? 48 : 16) + g / 2 * 32 + 16 * i;
        x.q[i] = nibbles(bytes_at(low), (int)(g % 2) * 4);
        if (!five) continue;
        __m128i on = _mm_cmpeq_epi8(_mm_and_si128(bytes_at(b + 16 + 16 * i), bit), bit);
        x.q[i] = _mm_or_si128(x.q[i], _mm_and_si128(on, _mm_set1_epi8(16)));
    }
    return x;
}

static inline struct group group_k6(const unsigned char *b, int64_t g) {
    struct group x = {.add = 0};
    float d = f16_at(b + 208);
    for (int i = 0; i < 2; i++) {
        const unsigned char *p = b + g / 4 * 64 + g % 2 * 32 + 16 * i;
        __m128i low = nibbles(bytes_at(p), (int)(g % 4 / 2) * 4);
        __m128i high = nibbles(bytes_at(b + 128 + g / 4 * 32 + 16 * i), (int)(g % 4) * 2);
        high = _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4);
        x.q[i] = _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32));
        x.scale[i] = d * (float)(int8_t)b[192 + 2 * g + i];
    }
    return x;
}

/* Half i of the block of 32 at b. */
static inline __attribute__((always_inline)) __m128i half_32(enum dtype t, const unsigned char *b,
                                                             int i) {
    switch (t) {
    case DT_Q4_0: return _mm_sub_epi8(nibbles(bytes_at(b + 2), 4 * i), _mm_set1_epi8(8));
    case DT_Q4_1: return nibbles(bytes_at(b + 4), 4 * i);
    case DT_Q5_0:
        return _mm_sub_epi8(
            _mm_or_si128(nibbles(bytes_at(b + 6), 4 * i), fifth_bits(b + 2 + 2 * i)),
            _mm_set1_epi8(16));
    case DT_Q5_1: return _mm_or_si128(nibbles(bytes_at(b + 8), 4 * i), fifth_bits(b + 4 + 2 * i));
    default: return bytes_at(b + 2 + 16 * i); /* Q8_0 */
    }
}

/* Elements [VL part, VL part + VL) of a group. */
static inline __attribute__((always_inline)) vf group_part(const struct group *x, int part) {
#if defined(__AVX512F__)
    vf v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x->q[part]));
#else
    __m128i q = part % 2 ? _mm_srli_si128(x->q[part / 2], 8) : x->q[part / 2];
    vf v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
#endif
    v = v * vf_set(x->scale[part * VL / 16]);
    if (x->adds) v = v + vf_set(x->add);
    return v;
}

static inline __attribute__((always_inline)) void group_store(const struct group *x, act *out) {
#ifdef KERN_PAIRS
    __m512bh both = _mm512_cvtne2ps_pbh(group_part(x, 1), group_part(x, 0));
    _mm512_storeu_si512((void *)out, (__m512i)both);
#else
#pragma GCC unroll 4
    for (int part = 0; part < GROUP / VL; part++) act_store(out + part * VL, group_part(x, part));
#endif
}

#ifdef KERN_PAIRS
/* 16 bytes of nibbles q: a group has 16 values (q - bias) scale + add, so it is converted by looking them up. */
static inline __attribute__((always_inline)) void
nibbles_store(__m128i bytes, float bias, float scale, float add, bool adds, act *out) {
    vf v = _mm512_cvtepi32_ps(vi_iota()) - vf_set(bias);
    v = v * vf_set(scale);
    if (adds) v = v + vf_set(add);
    __m512i table = _mm512_castsi256_si512((__m256i)_mm512_cvtneps_pbh(v));
    __m256i q = _mm256_set_m128i(nibbles(bytes, 4), nibbles(bytes, 0));
    _mm512_storeu_si512((void *)out, _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(q), table));
}
#endif

/* The f16 numbers at p, p + step, ... as floats: converted eight at once, and then broadcast by loads, which leaves
 * the ports of shuffles to the bytes. */
static inline __attribute__((always_inline)) void factors_load(const unsigned char *p, int64_t step,
                                                               int64_t n, float out[PIECE_GROUPS]) {
    int16_t h[PIECE_GROUPS] = {0};
#pragma GCC unroll 8
    for (int64_t i = 0; i < PIECE_GROUPS; i++)
        if (i < n) memcpy(&h[i], p + i * step, sizeof *h);
    __m128i all = _mm_setr_epi16(h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]);
    _mm256_storeu_ps(out, _mm256_cvtph_ps(all));
}

/* n <= BLOCKS_PIECE elements from col on of one row. */
static inline __attribute__((always_inline)) void blocks_row(enum dtype t, int64_t block_bytes,
                                                             const unsigned char *row, int64_t col,
                                                             int64_t n, act *out) {
    if (t == DT_Q4_K || t == DT_Q5_K || t == DT_Q6_K) {
        for (int64_t at = col; at < col + n; at += GROUP) {
            const unsigned char *b = row + at / 256 * block_bytes;
            int64_t g = at % 256 / GROUP;
            struct group x = t == DT_Q6_K ? group_k6(b, g) : group_k45(b, g, t == DT_Q5_K);
            group_store(&x, out + at - col);
        }
        return;
    }
    bool adds = t == DT_Q4_1 || t == DT_Q5_1;
    float scale[PIECE_GROUPS], add[PIECE_GROUPS] = {0};
    const unsigned char *b = row + col / GROUP * block_bytes;
    factors_load(b, block_bytes, n / GROUP, scale);
    if (adds) factors_load(b + 2, block_bytes, n / GROUP, add);
    for (int64_t g = 0; g < n / GROUP; g++, b += block_bytes) {
#ifdef KERN_PAIRS
        if (t == DT_Q4_0 || t == DT_Q4_1) {
            nibbles_store(bytes_at(b + (adds ? 4 : 2)), adds ? 0 : 8, scale[g], add[g], adds,
                          out + g * GROUP);
            continue;
        }
#endif
        struct group x = {{half_32(t, b, 0), half_32(t, b, 1)}, {scale[g], scale[g]}, add[g], adds};
        group_store(&x, out + g * GROUP);
    }
}

/* A matrix in blocks: `bytes` from row to row. */
struct blocks {
    const unsigned char *p;
    int64_t bytes;
    enum dtype type;
};

static inline __attribute__((always_inline)) void
blocks_rows_of(enum dtype t, int64_t elems, int64_t block_bytes, const struct blocks *x,
               int64_t col, int64_t rows, int64_t n, act *out, int64_t ld, uintptr_t next) {
    int64_t piece = n * block_bytes / elems;
    for (int64_t r = 0; r < rows; r++, next += (uintptr_t)piece) {
        for (int64_t i = 0; next && i < piece; i += 64)
            __builtin_prefetch((const void *)(next + (uintptr_t)i), 0, 2);
        if (n == BLOCKS_PIECE)
            blocks_row(t, block_bytes, x->p + r * x->bytes, col, BLOCKS_PIECE, out + r * ld);
        else
            blocks_row(t, block_bytes, x->p + r * x->bytes, col, n, out + r * ld);
    }
}

/* Columns [col, col + n), whole groups and at most BLOCKS_PIECE, of the first `rows` rows into out; fetches as many bytes from
 * `next` on unless that is 0. */
static void blocks_rows(const struct blocks *x, int64_t col, int64_t rows, int64_t n, act *out,
                        int64_t ld, uintptr_t next) {
#define BLOCKS_CASE(t, elems, bytes)                                                               \
    case t: blocks_rows_of(t, elems, bytes, x, col, rows, n, out, ld, next); break
    switch (x->type) {
        BLOCKS_CASE(DT_Q4_0, 32, 18);
        BLOCKS_CASE(DT_Q4_1, 32, 20);
        BLOCKS_CASE(DT_Q5_0, 32, 22);
        BLOCKS_CASE(DT_Q5_1, 32, 24);
        BLOCKS_CASE(DT_Q8_0, 32, 34);
        BLOCKS_CASE(DT_Q4_K, 256, 144);
        BLOCKS_CASE(DT_Q5_K, 256, 176);
        BLOCKS_CASE(DT_Q6_K, 256, 210);
    default: break; /* kern_takes_blocks says no */
    }
#undef BLOCKS_CASE
}
