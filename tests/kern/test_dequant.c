/* SPDX-License-Identifier: Apache-2.0 */
/* Block formats against recorded results of the gguf package (tools/golden/record_dequant.py), bit
 * for bit: integer times scale has one rounding an operation, in the same order on both sides. */
#include "check.h"

#include <math.h>

#include "core/dtype.h"
#include "kern/dequant.h"

#define MAX_ELEMS 2048

struct record {
    char name[8];
    uint32_t elems, bytes;
};

static void block_formats_equal_the_recorded_ones(void **state) {
    (void)state;
    FILE *f = fopen(TEST_DATA "/dequant.bin", "rb");
    assert_non_null(f);
    struct record r;
    static unsigned char raw[1 + 4 * MAX_ELEMS];
    static float want[MAX_ELEMS], got[MAX_ELEMS];
    unsigned seen = 0;
    while (fread(&r, sizeof r, 1, f) == 1) {
        enum dtype t;
        size_t bytes;
        assert_true(dtype_from_name(r.name, &t));
        assert_true(r.elems <= MAX_ELEMS);
        assert_true(dtype_bytes(t, r.elems, &bytes));
        assert_int_equal(bytes, r.bytes);
        /* one byte off: sources need no alignment */
        assert_int_equal(fread(raw + 1, 1, bytes, f), bytes);
        assert_int_equal(fread(want, sizeof *want, r.elems, f), r.elems);
        memset(got, 0xff, sizeof got);
        dequant_to_f32(t, raw + 1, r.elems, got);
        for (uint32_t i = 0; i < r.elems; i++)
            if (memcmp(&got[i], &want[i], sizeof *got) != 0)
                fail_msg("%s: element %u is %a, want %a", r.name, i, (double)got[i],
                         (double)want[i]);
        seen |= 1u << t;
    }
    fclose(f);
    for (int t = DT_Q4_0; t < DTYPES; t++)
        if (!(seen >> t & 1)) fail_msg("%s was not recorded", dtype_name((enum dtype)t));
}

static void a_part_of_a_row_is_the_same_as_the_whole(void **state) {
    (void)state;
    unsigned char raw[4 * 20];
    float whole[128], part[32];
    for (size_t i = 0; i < sizeof raw; i++) raw[i] = (unsigned char)(37 * i % 60);
    dequant_to_f32(DT_Q4_1, raw, 128, whole);
    for (int b = 0; b < 4; b++) {
        dequant_to_f32(DT_Q4_1, raw + 20 * b, 32, part);
        assert_memory_equal(part, whole + 32 * b, sizeof part);
    }
    dequant_to_f32(DT_Q4_1, raw, 0, NULL);
}

/* Values with few bits survive every plain type; others round to the nearest representable one. */
static void plain_types_go_there_and_back(void **state) {
    (void)state;
    static const float exact[] = {0.0f, -0.0f, 1.0f, -2.5f, 0.15625f, 96.0f, -0x1p-14f};
    enum { N = sizeof exact / sizeof *exact };
    static const enum dtype types[] = {DT_F32, DT_F16, DT_BF16, DT_F64};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        double stored[N];
        float back[N];
        quant_from_f32(types[k], exact, N, stored);
        dequant_to_f32(types[k], stored, N, back);
        assert_memory_equal(back, exact, sizeof exact);
    }
    bf16 b;
    f16 h;
    float x = 1.0f + 0x1p-8f + 0x1p-20f; /* just past the middle of two bf16 */
    quant_from_f32(DT_BF16, &x, 1, &b);
    assert_true(bf16_to_f32(b) == 1.0f + 0x1p-7f);
    x = 1.0f + 0x1p-11f; /* the middle of two f16: to even */
    quant_from_f32(DT_F16, &x, 1, &h);
    assert_true(f16_to_f32(h) == 1.0f);
    double wide = 1.0 + 0x1p-24 + 0x1p-40;
    dequant_to_f32(DT_F64, &wide, 1, &x);
    assert_true(x == 1.0f + 0x1p-23f);
}

/* The search that looks at factors only finds what a search of the elements finds. */
static void bad_factors_are_found(void **state) {
    (void)state;
    static unsigned char raw[4 * 210];
    static float wide[4 * 256];
    static const f16 bad[] = {0x7c00, 0xfc00, 0x7e01};
    for (int t = DT_Q4_0; t < DTYPES; t++) {
        enum dtype type = (enum dtype)t;
        int64_t elems = (int64_t)dtype_block_elems(type), n = 4 * elems;
        size_t bytes = dtype_block_bytes(type);
        memset(raw, 0x21, sizeof raw);
        assert_int_equal(dequant_first_nonfinite(type, raw, n), -1);
        for (size_t at = 0; at + 2 <= bytes; at++)
            for (size_t b = 0; b < 3; b++) {
                memset(raw, 0x21, sizeof raw);
                memcpy(raw + 2 * bytes + at, &bad[b], sizeof *bad);
                dequant_to_f32(type, raw, n, wide);
                int64_t first = 0;
                while (first < n && isfinite(wide[first])) first++;
                assert_int_equal(dequant_first_nonfinite(type, raw, n), first < n ? first : -1);
            }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_formats_equal_the_recorded_ones),
        cmocka_unit_test(a_part_of_a_row_is_the_same_as_the_whole),
        cmocka_unit_test(plain_types_go_there_and_back),
        cmocka_unit_test(bad_factors_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
