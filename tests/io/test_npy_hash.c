/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy files and content hashes. */
#define FILE_NAME "a.npy"
#include "hostile.h"

#include "core/mem.h"
#include "io/hash.h"
#include "io/npy.h"

static void arrays_go_there_and_back(void **state) {
    (void)state;
    struct mil_error err = {0};
    float data[24], *back;
    for (int i = 0; i < 24; i++) data[i] = (float)i;
    static const int64_t shapes[][4] = {{24}, {2, 12}, {2, 3, 4}, {1, 2, 3, 4}, {0, 5}, {1}};
    static const int ndims[] = {1, 2, 3, 4, 2, 0};
    for (size_t k = 0; k < sizeof ndims / sizeof *ndims; k++) {
        int ndim;
        int64_t shape[4];
        size_t n = 1;
        assert_ok(npy_write_f32(path, data, ndims[k], shapes[k], &err));
        assert_ok(npy_read_f32(path, &back, &ndim, shape, &err));
        assert_int_equal(ndim, ndims[k]);
        for (int i = 0; i < ndim; i++) {
            assert_int_equal(shape[i], shapes[k][i]);
            n *= (size_t)shape[i];
        }
        assert_memory_equal(back, data, n * sizeof *back);
        mem_free(back);
    }
    int ndim;
    int64_t shape[4];
    assert_ok(npy_read_f32(TEST_DATA "/reference.npy", &back, &ndim, shape, &err));
    assert_true(ndim == 3 && shape[0] == 2 && shape[1] == 3 && shape[2] == 4);
    assert_memory_equal(back, data, sizeof data);
    mem_free(back);
    /* what we write is what NumPy writes, byte for byte */
    struct str ours = {0}, theirs = {0};
    assert_ok(npy_write_f32(path, data, 3, shape, &err));
    assert_ok(file_read(path, 1000, &ours, &err));
    assert_ok(file_read(TEST_DATA "/reference.npy", 1000, &theirs, &err));
    assert_int_equal(ours.len, theirs.len);
    assert_memory_equal(ours.data, theirs.data, ours.len);
    str_release(&ours);
    str_release(&theirs);
}

static void broken_arrays_are_refused(void **state) {
    (void)state;
#define HEAD(descr, order, shape)                                                                  \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"
    static const struct {
        const char *head;
        size_t data;
        enum mil_status status;
        const char *part;
    } table[] = {
        {HEAD("'<f4'", "False", "(2,)"), 8, MIL_OK, ""},
        {HEAD("'<f4'", "False", "(2,)"), 7, MIL_INPUT, "needs 8 bytes of data, the file has 7"},
        {HEAD("'<f4'", "False", "(2,)"), 9, MIL_INPUT, "the file has 9"},
        {HEAD("'<f8'", "False", "(1,)"), 8, MIL_UNSUPPORTED, "must be '<f4'"},
        {HEAD("'<f4'", "True", "(2,)"), 8, MIL_UNSUPPORTED, "C order"},
        {HEAD("'<f4'", "False", "(1,1,1,1,2)"), 8, MIL_UNSUPPORTED, "more than 4"},
        {HEAD("'<f4'", "False", "(-2,)"), 8, MIL_INPUT, "not a tuple"},
        {HEAD("'<f4'", "False", "[2]"), 8, MIL_INPUT, "not a tuple"},
        {HEAD("'<f4'", "False", "(2"), 8, MIL_INPUT, "not a tuple"},
        {HEAD("'<f4'", "False", "(99999999999999999999,)"), 8, MIL_INPUT, "not a tuple"},
        {HEAD("'<f4'", "False", "(4611686018427387904,16)"), 8, MIL_INPUT, "overflows"},
        {"{}", 8, MIL_UNSUPPORTED, "must be '<f4'"},
    };
    struct mil_error err;
    float *data;
    int ndim;
    int64_t shape[4];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct str s = {0};
        str_addn(&s, "\x93NUMPY\1\0", 8);
        put_le(&s, strlen(table[i].head), 2);
        str_add(&s, table[i].head);
        for (size_t k = 0; k < table[i].data; k++) str_addc(&s, 0);
        flush_to(path, &s);
        assert_fails(npy_read_f32(path, &data, &ndim, shape, &err), table[i].status, table[i].part);
        mem_free(data);
    }
    static const struct {
        const char *bytes;
        size_t n;
        enum mil_status status;
        const char *part;
    } raw[] = {{"", 0, MIL_INPUT, "not a NumPy file"},
               {"\x93NUMPX\1\0\0\0", 10, MIL_INPUT, "not a NumPy file"},
               {"\x93NUMPY\2\0\0\0\0\0", 12, MIL_UNSUPPORTED, "format 2.0"},
               {"\x93NUMPY\1\0\xff\xff", 10, MIL_INPUT, "header of 65535 bytes, but only 0"}};
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
        put_bytes(path, raw[i].bytes, raw[i].n);
        assert_fails(npy_read_f32(path, &data, &ndim, shape, &err), raw[i].status, raw[i].part);
    }
}

/* XXH3-128 of "" and of "abc", from the algorithm's published test values (xxhsum -H2). */
static void hashes_are_those_of_xxhsum(void **state) {
    (void)state;
    char hex[HASH_HEX];
    struct hash *h = hash_new();
    hash_hex(h, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    hash_add(h, "a", 1);
    hash_add(h, "", 0);
    hash_add(h, "bc", 2);
    hash_hex(h, hex);
    assert_string_equal(hex, "06b05ab6733a618578af5f94892f3950");
    hash_free(&h);
    assert_null(h);
    hash_free(&h);
}

static void a_file_is_its_bytes(void **state) {
    (void)state;
    char hex[HASH_HEX];
    struct mil_error err = {0};
    put_bytes(path, "abc", 3);
    assert_ok(hash_file(path, hex, &err));
    assert_string_equal(hex, "06b05ab6733a618578af5f94892f3950");
    put_bytes(path, "", 0);
    assert_ok(hash_file(path, hex, &err));
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    mem_fail_after(0);
    enum mil_status st = hash_file(path, hex, &err);
    mem_fail_after(-1);
    assert_int_equal(st, MIL_NOMEM);
    assert_fails(hash_file("/nonexistent/x", hex, &err), MIL_ACCESS, "/nonexistent/x");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(arrays_go_there_and_back),
        TEST(broken_arrays_are_refused),
        TEST(hashes_are_those_of_xxhsum),
        TEST(a_file_is_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
