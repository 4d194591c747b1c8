/* SPDX-License-Identifier: Apache-2.0 */
/* dtype.c - tables of element types, and the scalar half-precision conversions. */
#include "core/dtype.h"

#include <strings.h>

#include "core/error.h"

static const struct {
    const char *name;
    size_t elems, bytes;
} types[DTYPES] = {
#define DTYPE_ROW(name, text, elems, bytes) {text, elems, bytes},
    DTYPE_MAP(DTYPE_ROW)
#undef DTYPE_ROW
};

const char *dtype_name(enum dtype t) {
    return t < DTYPES ? types[t].name : "?";
}

bool dtype_from_name(const char *name, enum dtype *out) {
    static const struct {
        const char *name;
        enum dtype t;
    } aliases[] = {
        {"bfloat16", DT_BF16}, {"float16", DT_F16}, {"float32", DT_F32}, {"float64", DT_F64}};
    for (int i = 0; i < DTYPES; i++)
        if (strcasecmp(name, types[i].name) == 0) {
            *out = (enum dtype)i;
            return true;
        }
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcasecmp(name, aliases[i].name) == 0) {
            *out = aliases[i].t;
            return true;
        }
    return false;
}

size_t dtype_block_elems(enum dtype t) {
    return types[t].elems;
}

size_t dtype_block_bytes(enum dtype t) {
    return types[t].bytes;
}

bool dtype_is_float(enum dtype t) {
    return t <= DT_F64 || (t >= DT_Q4_0 && t < DTYPES);
}

bool dtype_bytes(enum dtype t, uint64_t n, size_t *out) {
    if (t >= DTYPES || n % types[t].elems != 0 || n / types[t].elems > SIZE_MAX) return false;
    return checked_mul((size_t)(n / types[t].elems), types[t].bytes, out);
}

size_t dtype_size(enum dtype t) {
    REQUIRE(t < DTYPES && types[t].elems == 1);
    return types[t].bytes;
}

float f16_to_f32(f16 h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 0x1fu, man = h & 0x3ffu, u;
    if (exp == 31) {
        u = sign | 0x7f800000u | (man << 13);
    } else if (exp != 0) {
        u = sign | ((exp + 112) << 23) | (man << 13);
    } else { /* zero or subnormal: man * 2^-24 is exact in binary32 */
        float f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

f16 f16_from_f32(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = (u >> 16) & 0x8000u, abs = u & 0x7fffffffu;
    if (abs > 0x7f800000u) return (f16)(sign | 0x7e00u);
    if (abs >= 0x477ff000u) return (f16)(sign | 0x7c00u); /* rounds to infinity */
    if (abs < 0x38800000u) { /* subnormal: let the adder round at 2^-24 */
        float a;
        memcpy(&a, &abs, sizeof a);
        a += 0.5f;
        uint32_t bits;
        memcpy(&bits, &a, sizeof bits);
        return (f16)(sign | (bits - 0x3f000000u));
    }
    uint32_t odd = (abs >> 13) & 1u;
    return (f16)(sign | ((abs - 0x38000000u + 0xfffu + odd) >> 13));
}
