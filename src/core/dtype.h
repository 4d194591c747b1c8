/* SPDX-License-Identifier: Apache-2.0 */
/* dtype.h - element types of tensors, the plain ones and the block-quantised ones of GGUF.
 *
 * A block type stores block_elems consecutive elements of a row in block_bytes bytes; plain types
 * have block_elems == 1.  Conversions round to nearest, ties to even. */
#ifndef MIL_CORE_DTYPE_H
#define MIL_CORE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/mem.h"

/* X(enumerator, name, elements a block, bytes a block) */
#define DTYPE_MAP(X)                                                                               \
    X(DT_F32, "F32", 1, 4)                                                                         \
    X(DT_F16, "F16", 1, 2)                                                                         \
    X(DT_BF16, "BF16", 1, 2)                                                                       \
    X(DT_F64, "F64", 1, 8)                                                                         \
    X(DT_I8, "I8", 1, 1)                                                                           \
    X(DT_U8, "U8", 1, 1)                                                                           \
    X(DT_I16, "I16", 1, 2)                                                                         \
    X(DT_U16, "U16", 1, 2)                                                                         \
    X(DT_I32, "I32", 1, 4)                                                                         \
    X(DT_U32, "U32", 1, 4)                                                                         \
    X(DT_I64, "I64", 1, 8)                                                                         \
    X(DT_U64, "U64", 1, 8)                                                                         \
    X(DT_BOOL, "BOOL", 1, 1)                                                                       \
    X(DT_Q4_0, "Q4_0", 32, 18)                                                                     \
    X(DT_Q4_1, "Q4_1", 32, 20)                                                                     \
    X(DT_Q5_0, "Q5_0", 32, 22)                                                                     \
    X(DT_Q5_1, "Q5_1", 32, 24)                                                                     \
    X(DT_Q8_0, "Q8_0", 32, 34)                                                                     \
    X(DT_Q2_K, "Q2_K", 256, 84)                                                                    \
    X(DT_Q3_K, "Q3_K", 256, 110)                                                                   \
    X(DT_Q4_K, "Q4_K", 256, 144)                                                                   \
    X(DT_Q5_K, "Q5_K", 256, 176)                                                                   \
    X(DT_Q6_K, "Q6_K", 256, 210)

enum dtype {
#define DTYPE_ENUM(name, text, elems, bytes) name,
    DTYPE_MAP(DTYPE_ENUM)
#undef DTYPE_ENUM
        DTYPES
};

const char *dtype_name(enum dtype t); /* "BF16"; "?" outside the list */
/* Case-insensitive; accepts also "bfloat16", "float16", "float32", "float64". false: unknown. */
bool dtype_from_name(const char *name, enum dtype *out);
size_t dtype_block_elems(enum dtype t);
size_t dtype_block_bytes(enum dtype t);
/* Floating point, plain or block-quantised: convertible to f32. */
bool dtype_is_float(enum dtype t);
/* Bytes of n consecutive elements; false on overflow or when n is no multiple of the block. */
bool dtype_bytes(enum dtype t, uint64_t n, size_t *out);
/* Bytes of one element of a plain type (REQUIREs block_elems == 1). */
size_t dtype_size(enum dtype t);

typedef uint16_t bf16; /* upper half of an IEEE binary32 */
typedef uint16_t f16;  /* IEEE binary16 */

static inline float bf16_to_f32(bf16 h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline bf16 bf16_from_f32(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (bf16)((u >> 16) | 0x40u); /* quiet NaN */
    return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

float f16_to_f32(f16 h);
f16 f16_from_f32(float f);

#endif
