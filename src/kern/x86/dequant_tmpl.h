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

enum { GROUP = 32, BLOCKS_PIECE = 256 }; /* the piece: of a row, at a time */

/* q in memory order. */
struct group {
    __m256i q;
    float scale[2], add;
    bool adds;
};

static inline float f16_at(const unsigned char *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}
static inline __m256i bytes_at(const unsigned char *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline __m256i nibbles(__m256i bytes, int shift) {
    return _mm256_and_si256(_mm256_srl_epi16(bytes, _mm_cvtsi32_si128(shift)),
                            _mm256_set1_epi8(15));
}
/* 16 bytes: low nibbles, then high ones. */
static inline __m256i split_nibbles(const unsigned char *p) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}
/* 16 where bit i is set, 0 elsewhere. */
static inline __m256i fifth_bits(const unsigned char *p) {
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2,
                                    2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    __m256i lane = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), byte);
    __m256i on = _mm256_cmpeq_epi8(_mm256_and_si256(spread, lane), lane);
    return _mm256_and_si256(on, _mm256_set1_epi8(16));
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
    x.q = nibbles(bytes_at(b + (five ? 48 : 16) + g / 2 * 32), (int)(g % 2) * 4);
    if (five) {
        __m256i bit = _mm256_set1_epi8((char)(1 << g));
        __m256i on = _mm256_cmpeq_epi8(_mm256_and_si256(bytes_at(b + 16), bit), bit);
        x.q = _mm256_or_si256(x.q, _mm256_and_si256(on, _mm256_set1_epi8(16)));
    }
    return x;
}

static inline struct group group_k6(const unsigned char *b, int64_t g) {
    float d = f16_at(b + 208);
    __m256i low = nibbles(bytes_at(b + g / 4 * 64 + g % 2 * 32), (int)(g % 4 / 2) * 4);
    __m256i high = nibbles(bytes_at(b + 128 + g / 4 * 32), (int)(g % 4) * 2);
    high = _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(3)), 4);
    struct group x = {.q = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32))};
    for (int i = 0; i < 2; i++) x.scale[i] = d * (float)(int8_t)b[192 + 2 * g + i];
    return x;
}

/* Group g of the block b. */
static inline __attribute__((always_inline)) struct group
group_at(enum dtype t, const unsigned char *b, int64_t g) {
    struct group x = {.adds = t == DT_Q4_1 || t == DT_Q5_1};
    if (t == DT_Q4_K || t == DT_Q5_K) return group_k45(b, g, t == DT_Q5_K);
    if (t == DT_Q6_K) return group_k6(b, g);
    x.scale[0] = x.scale[1] = f16_at(b);
    x.add = x.adds ? f16_at(b + 2) : 0;
    switch (t) {
    case DT_Q4_0: x.q = _mm256_sub_epi8(split_nibbles(b + 2), _mm256_set1_epi8(8)); break;
    case DT_Q4_1: x.q = split_nibbles(b + 4); break;
    case DT_Q5_0:
        x.q = _mm256_or_si256(split_nibbles(b + 6), fifth_bits(b + 2));
        x.q = _mm256_sub_epi8(x.q, _mm256_set1_epi8(16));
        break;
    case DT_Q5_1: x.q = _mm256_or_si256(split_nibbles(b + 8), fifth_bits(b + 4)); break;
    default: x.q = bytes_at(b + 2); break; /* Q8_0 */
    }
    return x;
}

/* Elements [VL part, VL part + VL) of a group. */
static inline vf group_part(const struct group *x, int part) {
#if defined(__AVX512F__)
    __m128i q = part ? _mm256_extracti128_si256(x->q, 1) : _mm256_castsi256_si128(x->q);
    vf v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
#else
    __m128i q = part / 2 ? _mm256_extracti128_si256(x->q, 1) : _mm256_castsi256_si128(x->q);
    vf v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(part % 2 ? _mm_srli_si128(q, 8) : q));
#endif
    v = v * vf_set(x->scale[part * VL / 16]);
    if (x->adds) v = v + vf_set(x->add);
    return v;
}

static inline void group_store(const struct group *x, act *out) {
#ifdef KERN_PAIRS
    __m512bh both = _mm512_cvtne2ps_pbh(group_part(x, 1), group_part(x, 0));
    _mm512_storeu_si512((void *)out, (__m512i)both);
#else
#pragma GCC unroll 4
    for (int part = 0; part < GROUP / VL; part++) act_store(out + part * VL, group_part(x, part));
#endif
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
    int64_t piece = n / GROUP * block_bytes / (elems / GROUP);
    for (int64_t r = 0; r < rows; r++, next += (uintptr_t)piece) {
        const unsigned char *row = x->p + r * x->bytes;
        for (int64_t i = 0; next && i < piece; i += 64)
            __builtin_prefetch((const void *)(next + (uintptr_t)i), 0, 2);
        for (int64_t c = 0; c < n; c += GROUP) {
            int64_t at = col + c;
            struct group g = group_at(t, row + at / elems * block_bytes, at % elems / GROUP);
            group_store(&g, out + r * ld + c);
        }
    }
}

/* Columns [col, col + n), whole groups, of the first `rows` rows into out; fetches as many bytes from
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
