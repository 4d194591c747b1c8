/* SPDX-License-Identifier: Apache-2.0 */
/* Half-precision conversions, exhaustively: every half against the definition of its format, and
 * rounding against the definition of rounding (the nearest; of two, the one whose last bit is 0).
 */
#include "check.h"

#include <math.h>

#include "core/dtype.h"

/* The value by definition: sign, exponent bits, mantissa bits. */
static double half_value(uint32_t h, int exp_bits, int man_bits) {
    int bias = (1 << (exp_bits - 1)) - 1;
    uint32_t man = h & ((1u << man_bits) - 1);
    int exp = (int)(h >> man_bits & ((1u << exp_bits) - 1));
    double sign = h >> (exp_bits + man_bits) & 1 ? -1 : 1;
    if (exp == (1 << exp_bits) - 1) return man ? NAN : sign * INFINITY;
    if (exp == 0) return sign * ldexp(man, 1 - bias - man_bits);
    return sign * ldexp((double)(man + (1u << man_bits)), exp - bias - man_bits);
}

static bool same(double a, double b) {
    return (isnan(a) && isnan(b)) || (a == b && !signbit(a) == !signbit(b));
}

static void every_half_has_its_value_and_comes_back(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((f16)h), b = bf16_to_f32((bf16)h);
        if (!same(f, half_value(h, 5, 10))) fail_msg("f16 %04x is %a", h, (double)f);
        if (!same(b, half_value(h, 8, 7))) fail_msg("bf16 %04x is %a", h, (double)b);
        if (isnan(f))
            assert_true(isnan(f16_to_f32(f16_from_f32(f))));
        else
            assert_int_equal(f16_from_f32(f), h);
        if (isnan(b))
            assert_true(isnan(bf16_to_f32(bf16_from_f32(b))));
        else
            assert_int_equal(bf16_from_f32(b), h);
    }
}

/* Between neighbours h and h + 1 (positive, finite; the last step goes to infinity): the middle
 * goes to the even one, what lies just below or above it to the nearer one. */
static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        double lo = half_value(h, 5, 10), hi = h == 0x7bff ? 65536 : half_value(h + 1, 5, 10);
        float mid = (float)((lo + hi) / 2), below = nextafterf(mid, 0),
              above = nextafterf(mid, INFINITY);
        assert_true(mid == (lo + hi) / 2); /* exact in binary32 */
        assert_int_equal(f16_from_f32(mid), h % 2 ? h + 1 : h);
        assert_int_equal(f16_from_f32(below), h);
        assert_int_equal(f16_from_f32(above), h + 1);
        assert_int_equal(f16_from_f32(-mid), 0x8000 | (h % 2 ? h + 1 : h));
    }
    for (uint32_t h = 0; h < 0x7f80; h++) {
        uint32_t bits = h << 16 | 0x8000; /* the middle, by construction */
        float mid;
        memcpy(&mid, &bits, sizeof mid);
        assert_int_equal(bf16_from_f32(mid), h % 2 ? h + 1 : h);
        assert_int_equal(bf16_from_f32(nextafterf(mid, 0)), h);
        assert_int_equal(bf16_from_f32(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_int_equal(f16_from_f32(1e30f), 0x7c00);
    assert_int_equal(f16_from_f32(-1e-30f), 0x8000);
}

static void names_and_sizes(void **state) {
    (void)state;
    enum dtype t;
    assert_true(dtype_from_name("bf16", &t) && t == DT_BF16);
    assert_true(dtype_from_name("float16", &t) && t == DT_F16);
    assert_false(dtype_from_name("float8", &t));
    for (int i = 0; i < DTYPES; i++)
        assert_true(dtype_from_name(dtype_name((enum dtype)i), &t) && t == (enum dtype)i);
    size_t bytes;
    assert_true(dtype_bytes(DT_Q4_1, 64, &bytes) && bytes == 40);
    assert_false(dtype_bytes(DT_Q4_1, 63, &bytes));
    assert_false(dtype_bytes(DT_F64, UINT64_MAX / 4, &bytes));
    assert_true(dtype_bytes(DT_F32, 0, &bytes) && bytes == 0);
    assert_true(dtype_is_float(DT_F64) && dtype_is_float(DT_Q6_K) && !dtype_is_float(DT_I8));
    assert_int_equal(dtype_size(DT_BF16), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_has_its_value_and_comes_back),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
