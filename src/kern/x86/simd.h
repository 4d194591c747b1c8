/* SPDX-License-Identifier: Apache-2.0 */
/* simd.h - vectors of VL f32 in the width of the file's instruction set, so that one body serves
 * AVX2 (8 lanes) and AVX-512 (16).  + - * / work on vf as the compilers define them; the rest is
 * below.  Loads and stores need no alignment; the _n forms touch the first n lanes of memory only,
 * and load zeros beyond. */
#ifndef MIL_KERN_X86_SIMD_H
#define MIL_KERN_X86_SIMD_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/dtype.h"

#if defined(__AVX512F__)

enum { VL = 16 };
typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_set(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
enum { VD = 8 }; /* lanes of f64 */
typedef __m512d vd;
static inline vd vd_set(double x) {
    return _mm512_set1_pd(x);
}
static inline vd vd_load(const double *p) {
    return _mm512_loadu_pd(p);
}
static inline void vd_store(double *p, vd x) {
    _mm512_storeu_pd(p, x);
}
static inline vd vd_fma(vd a, vd b, vd c) {
    return _mm512_fmadd_pd(a, b, c);
}
static inline void vf_store_f64(double *p, vf x) {
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
    _mm512_storeu_pd(p, _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
    _mm512_storeu_pd(p + 8, _mm512_cvtps_pd(high));
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* The second operand where either is NaN. */
static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
static inline vf vf_sqrt(vf a) {
    return _mm512_sqrt_ps(a);
}
static inline vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x 2^n, n integral: overflow and gradual underflow as the numbers demand. */
static inline vf vf_ldexp(vf x, vf n) {
    return _mm512_scalef_ps(x, n);
}
static inline vi vi_set(int32_t x) {
    return _mm512_set1_epi32(x);
}
static inline vi vi_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
static inline vi vi_iota(void) {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
/* Lanes of 64 bits, for products of 32-bit words: each lane's lower half counts, the upper half of an
 * operand is whatever it is. */
static inline vi vi_set64(uint64_t x) {
    return _mm512_set1_epi64((int64_t)x);
}
static inline vi vi_add64(vi a, vi b) {
    return _mm512_add_epi64(a, b);
}
static inline vi vi_mul_low(vi a, vi b) {
    return _mm512_mul_epu32(a, b);
}
/* The halves of each lane exchanged. */
static inline vi vi_swap(vi a) {
    return _mm512_shuffle_epi32(a, _MM_PERM_CDAB);
}
static inline vi vi_xor(vi a, vi b) {
    return _mm512_xor_si512(a, b);
}
static inline vi vi_xor3(vi a, vi b, vi c) {
    return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}
/* a ^ b in the lower halves, a in the upper ones. */
static inline vi vi_xor_low(vi a, vi b) {
    return _mm512_mask_xor_epi32(a, 0x5555, a, b);
}
/* 0, 1, .. in the order that vi_zip_low and vi_zip_high put right: they take the even and the odd
 * lanes, first a's, then b's of each. */
static inline vi vi_zip_iota(void) {
    return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
}
static inline vi vi_zip_low(vi a, vi b) {
    return _mm512_unpacklo_epi64(a, b);
}
static inline vi vi_zip_high(vi a, vi b) {
    return _mm512_unpackhi_epi64(a, b);
}
/* Bit l: lane l of a, 32 bits without sign, is above that of b. */
static inline uint32_t vi_bits_above(vi a, vi b) {
    return _mm512_cmpgt_epu32_mask(a, b);
}
/* first <= index <= last ? x : other, by lane. */
static inline vf vf_keep_between(vf x, vf other, vi index, vi first, vi last) {
    __mmask16 m = _mm512_cmple_epi32_mask(first, index) & _mm512_cmple_epi32_mask(index, last);
    return _mm512_mask_blend_ps(m, other, x);
}
/* x, but +0 in the lanes where f is 0. */
static inline vf vf_zero_where_zero(vf x, vf f) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(f, vf_set(0), _CMP_NEQ_UQ), x);
}
/* The first n lanes; vh: vectors of VL numbers of 16 bits. */
static inline __mmask16 lanes_mask(int64_t n) {
    return (__mmask16)((1u << n) - 1);
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(lanes_mask(n), p);
}
static inline void vf_store_n(float *p, vf x, int64_t n) {
    _mm512_mask_storeu_ps(p, lanes_mask(n), x);
}
typedef __m256i vh;
static inline vh vh_load(const uint16_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline void vh_store(uint16_t *p, vh x) {
    _mm256_storeu_si256((__m256i *)(void *)p, x);
}
static inline vh vh_load_n(const uint16_t *p, int64_t n) {
    return _mm256_maskz_loadu_epi16(lanes_mask(n), p);
}
static inline void vh_store_n(uint16_t *p, vh x, int64_t n) {
    _mm256_mask_storeu_epi16(p, lanes_mask(n), x);
}
static inline vf vf_of_bf16(vh h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline vf vf_of_f16(vh h) {
    return _mm512_cvtph_ps(h);
}
static inline vh vh_of_f16(vf x) {
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}
/* Round to nearest even, NaN stays a quiet NaN. */
static inline vh vh_round_bf16(vf x) {
    __m512i u = _mm512_castps_si512(x);
    __mmask16 odd = _mm512_test_epi32_mask(u, _mm512_set1_epi32(0x10000));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512i up = _mm512_add_epi32(u, _mm512_set1_epi32(0x7fff));
    up = _mm512_mask_add_epi32(up, odd, u, _mm512_set1_epi32(0x8000));
    up = _mm512_mask_or_epi32(up, nan, u, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}
#if defined(__AVX512BF16__)
/* The processor's own conversion takes subnormal numbers for 0: vectors with one go the long way. */
static inline vh vh_of_bf16(vf x) {
    if (_mm512_fpclass_ps_mask(x, 0x20)) return vh_round_bf16(x);
    return (__m256i)_mm512_cvtneps_pbh(x);
}
#else
static inline vh vh_of_bf16(vf x) {
    return vh_round_bf16(x);
}
#endif
/* The sum of lanes i and i + 8. */
static inline __m256 vf_fold(vf x) {
    __m512d high = _mm512_castps_pd(x);
    return _mm256_add_ps(_mm512_castps512_ps256(x),
                         _mm256_castpd_ps(_mm512_extractf64x4_pd(high, 1)));
}

/* Lane i of row j becomes lane j of row i; lanes are any 32 bits. */
static inline void vf_transpose(vf r[16]) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 4) {
        __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]);
        __m512 d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    /* t[4 g + c]: quarter q holds column 4 q + c of rows 4 g .. 4 g + 3. */
    for (int c = 0; c < 4; c++) {
        __m512 even01 = _mm512_shuffle_f32x4(t[c], t[4 + c], 0x88);
        __m512 odd01 = _mm512_shuffle_f32x4(t[c], t[4 + c], 0xdd);
        __m512 even23 = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0x88);
        __m512 odd23 = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0xdd);
        r[c] = _mm512_shuffle_f32x4(even01, even23, 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(even01, even23, 0xdd);
        r[4 + c] = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
        r[12 + c] = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
    }
}
/* Lane i: x where bit i is set, 0 elsewhere. */
static inline vf vf_keep(uint32_t bits, vf x) {
    return _mm512_maskz_mov_ps((__mmask16)bits, x);
}
/* Lane i: a where bit i is set, b elsewhere. */
static inline vf vf_select(uint32_t bits, vf a, vf b) {
    return _mm512_mask_blend_ps((__mmask16)bits, b, a);
}

#elif defined(__AVX2__)

enum { VL = 8 };
typedef __m256 vf;
typedef __m256i vi;

static inline vf vf_set(float x) {
    return _mm256_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x);
}
enum { VD = 4 };
typedef __m256d vd;
static inline vd vd_set(double x) {
    return _mm256_set1_pd(x);
}
static inline vd vd_load(const double *p) {
    return _mm256_loadu_pd(p);
}
static inline void vd_store(double *p, vd x) {
    _mm256_storeu_pd(p, x);
}
static inline vd vd_fma(vd a, vd b, vd c) {
    return _mm256_fmadd_pd(a, b, c);
}
static inline void vf_store_f64(double *p, vf x) {
    _mm256_storeu_pd(p, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    _mm256_storeu_pd(p + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
static inline vf vf_sqrt(vf a) {
    return _mm256_sqrt_ps(a);
}
static inline vf vf_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* In two halves, so that |n| up to 250 neither overflows nor underflows early. */
static inline vf vf_ldexp(vf x, vf n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(x, a), b);
}
static inline vi vi_set(int32_t x) {
    return _mm256_set1_epi32(x);
}
static inline vi vi_add(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
static inline vi vi_iota(void) {
    return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
}
static inline vi vi_set64(uint64_t x) {
    return _mm256_set1_epi64x((int64_t)x);
}
static inline vi vi_add64(vi a, vi b) {
    return _mm256_add_epi64(a, b);
}
static inline vi vi_mul_low(vi a, vi b) {
    return _mm256_mul_epu32(a, b);
}
static inline vi vi_swap(vi a) {
    return _mm256_shuffle_epi32(a, 0xb1);
}
static inline vi vi_xor(vi a, vi b) {
    return _mm256_xor_si256(a, b);
}
static inline vi vi_xor3(vi a, vi b, vi c) {
    return _mm256_xor_si256(_mm256_xor_si256(b, c), a);
}
static inline vi vi_xor_low(vi a, vi b) {
    return _mm256_blend_epi32(a, _mm256_xor_si256(a, b), 0x55);
}
static inline vi vi_zip_iota(void) {
    return _mm256_setr_epi64x(0, 2, 1, 3);
}
static inline vi vi_zip_low(vi a, vi b) {
    return _mm256_unpacklo_epi64(a, b);
}
static inline vi vi_zip_high(vi a, vi b) {
    return _mm256_unpackhi_epi64(a, b);
}
static inline uint32_t vi_bits_above(vi a, vi b) {
    __m256i not_above = _mm256_cmpeq_epi32(_mm256_max_epu32(a, b), b);
    return ~(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(not_above)) & 0xffu;
}
static inline vf vf_keep_between(vf x, vf other, vi index, vi first, vi last) {
    __m256i out =
        _mm256_or_si256(_mm256_cmpgt_epi32(first, index), _mm256_cmpgt_epi32(index, last));
    return _mm256_blendv_ps(x, other, _mm256_castsi256_ps(out));
}
static inline vf vf_zero_where_zero(vf x, vf f) {
    return _mm256_and_ps(_mm256_cmp_ps(f, vf_set(0), _CMP_NEQ_UQ), x);
}
static inline __m256i lanes_mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)n), vi_iota());
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm256_maskload_ps(p, lanes_mask(n));
}
static inline void vf_store_n(float *p, vf x, int64_t n) {
    _mm256_maskstore_ps(p, lanes_mask(n), x);
}
typedef __m128i vh;
static inline vh vh_load(const uint16_t *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
static inline void vh_store(uint16_t *p, vh x) {
    _mm_storeu_si128((__m128i *)(void *)p, x);
}
static inline vh vh_load_n(const uint16_t *p, int64_t n) {
    uint16_t lanes[VL] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vh_load(lanes);
}
static inline void vh_store_n(uint16_t *p, vh x, int64_t n) {
    uint16_t lanes[VL];
    vh_store(lanes, x);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}
static inline vf vf_of_bf16(vh h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline vf vf_of_f16(vh h) {
    return _mm256_cvtph_ps(h);
}
static inline vh vh_of_f16(vf x) {
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}
static inline vh vh_of_bf16(vf x) {
    __m256i u = _mm256_castps_si256(x), top = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    __m256i r = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
static inline __m256 vf_fold(vf x) {
    return x;
}

static inline void vf_transpose(vf r[8]) {
    __m256 t[8];
    for (int i = 0; i < 8; i += 4) {
        __m256 a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
        __m256 c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]);
        __m256 d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int c = 0; c < 4; c++) {
        r[c] = _mm256_permute2f128_ps(t[c], t[4 + c], 0x20);
        r[4 + c] = _mm256_permute2f128_ps(t[c], t[4 + c], 0x31);
    }
}
static inline vf vf_keep(uint32_t bits, vf x) {
    __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i on = _mm256_and_si256(_mm256_set1_epi32((int32_t)bits), lane);
    return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(on, lane)));
}
static inline vf vf_select(uint32_t bits, vf a, vf b) {
    __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i on = _mm256_and_si256(_mm256_set1_epi32((int32_t)bits), lane);
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(_mm256_cmpeq_epi32(on, lane)));
}

#else
#error "compile with the flags of the file's suffix: _avx2 or _avx512"
#endif

static inline vf vf_from_bf16(const bf16 *p) {
    return vf_of_bf16(vh_load(p));
}
static inline void vf_to_bf16(bf16 *p, vf x) {
    vh_store(p, vh_of_bf16(x));
}

/* The sum of the lanes, in a fixed order of pairs: lane i and lane i + n for n = VL / 2, .., 1. */
static inline float vf_sum(vf x) {
    __m256 eight = vf_fold(x);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
/* The largest lane; a NaN wins. */
static inline float vf_top(vf x) {
    float lanes[VL];
    vf_store(lanes, x);
    for (int i = 1; i < VL; i++)
        if (!(lanes[i] <= lanes[0])) lanes[0] = lanes[i]; /* a NaN wins */
    return lanes[0];
}

/* WIDE vectors, to be computed side by side: a long chain of operations on one leaves the units waiting,
 * and processors look ahead by a hundred operations or so. */
enum { WIDE = VL == 16 ? 4 : 2 };
static inline void vf_to_bf16_wide(bf16 *p, const vf x[WIDE]) {
#if defined(__AVX512BF16__)
    uint32_t small = 0;
    for (int k = 0; k < WIDE; k++) small |= _mm512_fpclass_ps_mask(x[k], 0x20);
    if (!small) {
        for (int k = 0; k < WIDE; k++) vh_store(p + k * VL, (__m256i)_mm512_cvtneps_pbh(x[k]));
        return;
    }
#endif
    for (int k = 0; k < WIDE; k++) vf_to_bf16(p + k * VL, x[k]);
}

/* n <= VL elements of any type but f64, from element i. */
static inline vf vf_load_any(enum dtype t, const void *p, int64_t i, int64_t n) {
    if (t == DT_F32) {
        const float *x = (const float *)p + i;
        return n == VL ? vf_load(x) : vf_load_n(x, n);
    }
    const uint16_t *x = (const uint16_t *)p + i;
    vh h = n == VL ? vh_load(x) : vh_load_n(x, n);
    return t == DT_BF16 ? vf_of_bf16(h) : vf_of_f16(h);
}
static inline void vf_store_any(enum dtype t, void *p, int64_t i, int64_t n, vf v) {
    if (t == DT_F32) {
        float *x = (float *)p + i;
        if (n == VL)
            vf_store(x, v);
        else
            vf_store_n(x, v, n);
        return;
    }
    uint16_t *x = (uint16_t *)p + i;
    vh h = t == DT_BF16 ? vh_of_bf16(v) : vh_of_f16(v);
    if (n == VL)
        vh_store(x, h);
    else
        vh_store_n(x, h, n);
}
/* How many of the elements from i on make the next vector. */
static inline int64_t lanes_left(int64_t i, int64_t end) {
    return end - i < VL ? end - i : VL;
}

/* exp, relative error under 2 units in the last place; 0 below -104, infinity above 88.8, NaN
 * stays.
 *
 *   x = n ln 2 + r, |r| <= ln 2 / 2 (ln 2 in two parts, the first with trailing zeros, so that
 *   n ln2_hi is exact);  exp r = 1 + r + r^2 P(r), P a polynomial of degree 4 fitted to the least
 * largest error (2^-28);  exp x = 2^n exp r. */
static inline vf vf_exp(vf x) {
    x = vf_max(vf_set(-104.0f), vf_min(vf_set(89.0f), x));
    vf n = vf_round(x * vf_set(1.44269504088896341f));
    vf r = vf_fma(n, vf_set(-0.693145751953125f), x);
    r = vf_fma(n, vf_set(-1.42860677e-6f), r);
    vf p = vf_set(1.38145394e-3f);
    p = vf_fma(p, r, vf_set(8.36874545e-3f));
    p = vf_fma(p, r, vf_set(4.16683890e-2f));
    p = vf_fma(p, r, vf_set(1.66665211e-1f));
    p = vf_fma(p, r, vf_set(0.499999940f));
    return vf_ldexp(vf_fma(r * r, p, r) + vf_set(1.0f), n);
}

#endif
