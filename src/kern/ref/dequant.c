/* SPDX-License-Identifier: Apache-2.0 */
/* dequant.c - stored elements as f32.  docs/formats/gguf.md draws the blocks.
 *
 * Blocks of 32 (d, m: f16):           x = d (q - bias)            Q4_0 (8), Q5_0 (16), Q8_0 (0)
 *                                     x = d q + m                 Q4_1, Q5_1
 * Super-blocks of 256, sub-scales s and sub-minima u in integers:
 *     16 elements a sub-block         x = (d s) q                 Q3_K, Q6_K
 *                                     x = (d s) q - (dmin u)      Q2_K
 *     32 elements a sub-block         x = (d s) q - (dmin u)      Q4_K, Q5_K
 * All in f32 and in this order of operations, which is that of the gguf Python package: results are
 * equal to its bit for bit.  Bytes are read one by one, so sources need no alignment. */
#include "kern/dequant.h"

#include "core/error.h"

enum { QK = 32, QK_K = 256 };

static uint16_t load_u16(const unsigned char *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static float load_f16(const unsigned char *p) {
    return f16_to_f32(load_u16(p));
}

/* d | 16 bytes of nibbles: element j low, element j + 16 high */
static void q4_0(const unsigned char *b, float *y) {
    float d = load_f16(b);
    for (int j = 0; j < QK / 2; j++) {
        y[j] = d * (float)((b[2 + j] & 15) - 8);
        y[j + QK / 2] = d * (float)((b[2 + j] >> 4) - 8);
    }
}

/* d | m | nibbles */
static void q4_1(const unsigned char *b, float *y) {
    float d = load_f16(b), m = load_f16(b + 2);
    for (int j = 0; j < QK / 2; j++) {
        y[j] = d * (float)(b[4 + j] & 15) + m;
        y[j + QK / 2] = d * (float)(b[4 + j] >> 4) + m;
    }
}

/* The fifth bit of element j is bit j of four little-endian bytes. */
static int fifth_bit(const unsigned char *high, int j) {
    return (high[j / 8] >> j % 8 & 1) << 4;
}

/* d | 4 bytes of fifth bits | nibbles */
static void q5_0(const unsigned char *b, float *y) {
    float d = load_f16(b);
    const unsigned char *high = b + 2, *q = b + 6;
    for (int j = 0; j < QK / 2; j++) {
        y[j] = d * (float)(((q[j] & 15) | fifth_bit(high, j)) - 16);
        y[j + QK / 2] = d * (float)(((q[j] >> 4) | fifth_bit(high, j + QK / 2)) - 16);
    }
}

/* d | m | 4 bytes of fifth bits | nibbles */
static void q5_1(const unsigned char *b, float *y) {
    float d = load_f16(b), m = load_f16(b + 2);
    const unsigned char *high = b + 4, *q = b + 8;
    for (int j = 0; j < QK / 2; j++) {
        y[j] = d * (float)((q[j] & 15) | fifth_bit(high, j)) + m;
        y[j + QK / 2] = d * (float)((q[j] >> 4) | fifth_bit(high, j + QK / 2)) + m;
    }
}

/* d | 32 signed bytes */
static void q8_0(const unsigned char *b, float *y) {
    float d = load_f16(b);
    for (int j = 0; j < QK; j++) y[j] = d * (float)(int8_t)b[2 + j];
}

/* Two bits of element i (0..255) of a super-block: byte 32 (i / 128) + i % 32, pair i / 32 % 4. */
static int two_bits(const unsigned char *q, int i) {
    return q[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
}

/* 16 bytes, scale low and minimum high | 64 bytes of pairs | d | dmin */
static void q2_k(const unsigned char *b, float *y) {
    const unsigned char *scales = b, *q = b + 16;
    float d = load_f16(b + 80), dmin = load_f16(b + 82);
    for (int s = 0; s < QK_K / 16; s++) {
        float scale = d * (float)(scales[s] & 15), min = dmin * (float)(scales[s] >> 4);
        for (int i = 16 * s; i < 16 * s + 16; i++) y[i] = scale * (float)two_bits(q, i) - min;
    }
}

/* Scale s (0..15) of Q3_K: four low bits in bytes 0..7, two high bits in bytes 8..11. */
static int q3_scale(const unsigned char *p, int s) {
    int low = p[s % 8] >> s / 8 * 4 & 15, high = p[8 + s % 4] >> s / 4 * 2 & 3;
    return (low | high << 4) - 32;
}

/* 32 bytes of third bits | 64 bytes of pairs | 12 bytes of scales | d.  The third bit of element i
 * is bit i / 32 of byte i % 32; it is stored inverted: absent means minus 4. */
static void q3_k(const unsigned char *b, float *y) {
    const unsigned char *third = b, *q = b + 32, *scales = b + 96;
    float d = load_f16(b + 108);
    for (int s = 0; s < QK_K / 16; s++) {
        float scale = d * (float)q3_scale(scales, s);
        for (int i = 16 * s; i < 16 * s + 16; i++) {
            int low = third[i % 32] >> i / 32 & 1 ? 0 : 4;
            y[i] = scale * (float)(two_bits(q, i) - low);
        }
    }
}

/* Scale and minimum s (0..7) of Q4_K and Q5_K, six bits each, in 12 bytes: those of s < 4 in the
 * low six bits of bytes s and s + 4; the others have their low four bits in the halves of byte s +
 * 4, and their high two in what was left of bytes s - 4 and s. */
static void six_bits(const unsigned char *p, int s, int *scale, int *min) {
    if (s < 4) {
        *scale = p[s] & 63;
        *min = p[s + 4] & 63;
    } else {
        *scale = (p[s + 4] & 15) | p[s - 4] >> 6 << 4;
        *min = p[s + 4] >> 4 | p[s] >> 6 << 4;
    }
}

/* Nibble of element i: byte 32 (i / 64) + i % 32, low in the first half of each 64. */
static int nibble(const unsigned char *q, int i) {
    return q[i / 64 * 32 + i % 32] >> i / 32 % 2 * 4 & 15;
}

/* d | dmin | 12 bytes of scales | 128 bytes of nibbles */
static void q4_k(const unsigned char *b, float *y) {
    float d = load_f16(b), dmin = load_f16(b + 2);
    for (int s = 0; s < QK_K / 32; s++) {
        int scale, min;
        six_bits(b + 4, s, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        for (int i = 32 * s; i < 32 * s + 32; i++) y[i] = ds * (float)nibble(b + 16, i) - dm;
    }
}

/* d | dmin | 12 bytes of scales | 32 bytes of fifth bits | 128 bytes of nibbles.  The fifth bit of
 * element i is bit i / 32 of byte i % 32. */
static void q5_k(const unsigned char *b, float *y) {
    float d = load_f16(b), dmin = load_f16(b + 2);
    const unsigned char *fifth = b + 16, *q = b + 48;
    for (int s = 0; s < QK_K / 32; s++) {
        int scale, min;
        six_bits(b + 4, s, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        for (int i = 32 * s; i < 32 * s + 32; i++)
            y[i] = ds * (float)(nibble(q, i) | (fifth[i % 32] >> s & 1) << 4) - dm;
    }
}

/* 128 bytes of nibbles | 64 bytes of upper pairs | 16 signed scales | d.  The nibble of element i
 * is in byte 64 (i / 128) + i % 64, low in the first half of each 128. */
static void q6_k(const unsigned char *b, float *y) {
    const unsigned char *low = b, *high = b + 128, *scales = b + 192;
    float d = load_f16(b + 208);
    for (int s = 0; s < QK_K / 16; s++) {
        float scale = d * (float)(int8_t)scales[s];
        for (int i = 16 * s; i < 16 * s + 16; i++) {
            int q = (low[i / 128 * 64 + i % 64] >> i / 64 % 2 * 4 & 15) | two_bits(high, i) << 4;
            y[i] = scale * (float)(q - 32);
        }
    }
}

typedef void (*block_fn)(const unsigned char *block, float *y);

static const block_fn block_fns[DTYPES] = {
    [DT_Q4_0] = q4_0, [DT_Q4_1] = q4_1, [DT_Q5_0] = q5_0, [DT_Q5_1] = q5_1, [DT_Q8_0] = q8_0,
    [DT_Q2_K] = q2_k, [DT_Q3_K] = q3_k, [DT_Q4_K] = q4_k, [DT_Q5_K] = q5_k, [DT_Q6_K] = q6_k};

static void f16_row(const unsigned char *src, int64_t n, float *dst) {
    for (int64_t i = 0; i < n; i++) dst[i] = load_f16(src + 2 * i);
}

static void bf16_row(const unsigned char *src, int64_t n, float *dst) {
    for (int64_t i = 0; i < n; i++) dst[i] = bf16_to_f32(load_u16(src + 2 * i));
}

static void f64_row(const unsigned char *src, int64_t n, float *dst) {
    for (int64_t i = 0; i < n; i++) {
        double x;
        memcpy(&x, src + 8 * i, sizeof x);
        dst[i] = (float)x;
    }
}

void dequant_to_f32(enum dtype t, const void *src, int64_t n, float *dst) {
    REQUIRE(n >= 0 && dtype_is_float(t) && n % (int64_t)dtype_block_elems(t) == 0);
    if (n == 0) return;
    switch (t) {
    case DT_F32: memcpy(dst, src, (size_t)n * sizeof *dst); return;
    case DT_F16: f16_row(src, n, dst); return;
    case DT_BF16: bf16_row(src, n, dst); return;
    case DT_F64: f64_row(src, n, dst); return;
    default: break;
    }
    const unsigned char *block = src;
    int64_t elems = (int64_t)dtype_block_elems(t);
    for (int64_t i = 0; i < n; i += elems, block += dtype_block_bytes(t))
        block_fns[t](block, dst + i);
}

int64_t dequant_first_nonfinite(enum dtype t, const void *src, int64_t n) {
    /* Where the f16 factors stand: one, or two that follow each other. */
    static const struct {
        uint8_t at, n;
    } factors[DTYPES] = {
        [DT_Q4_0] = {0, 1}, [DT_Q4_1] = {0, 2},  [DT_Q5_0] = {0, 1},   [DT_Q5_1] = {0, 2},
        [DT_Q8_0] = {0, 1}, [DT_Q2_K] = {80, 2}, [DT_Q3_K] = {108, 1}, [DT_Q4_K] = {0, 2},
        [DT_Q5_K] = {0, 2}, [DT_Q6_K] = {208, 1}};
    int64_t elems = (int64_t)dtype_block_elems(t);
    const unsigned char *p = src;
    REQUIRE(elems > 1 && n % elems == 0);
    p += factors[t].at;
    for (int64_t i = 0; i < n; i += elems, p += dtype_block_bytes(t))
        for (int f = 0; f < factors[t].n; f++)
            if ((load_u16(p + 2 * f) & 0x7c00) == 0x7c00) return i;
    return -1;
}

void quant_from_f32(enum dtype t, const float *src, int64_t n, void *dst) {
    REQUIRE(n >= 0 && t <= DT_F64);
    f16 *half = dst;
    double *wide = dst;
    switch (t) {
    case DT_F16:
        for (int64_t i = 0; i < n; i++) half[i] = f16_from_f32(src[i]);
        break;
    case DT_BF16:
        for (int64_t i = 0; i < n; i++) half[i] = bf16_from_f32(src[i]);
        break;
    case DT_F64:
        for (int64_t i = 0; i < n; i++) wide[i] = src[i];
        break;
    default:
        if (n) memcpy(dst, src, (size_t)n * sizeof *src);
    }
}
