/* SPDX-License-Identifier: Apache-2.0 */
/* test_text.c - the containers and helpers of milora/text.h, also without memory. */
#include "check.h"

#include "core/mem.h"
#include "milora/text.h"

static void text_grows_and_keeps_nuls(void **state) {
    (void)state;
    struct mil_error err;
    struct mil_text t = {0};
    assert_ok(mil_text_add(&t, "", 0, &err));
    assert_string_equal(t.data, "");
    for (int i = 0; i < 1000; i++) assert_ok(mil_text_add(&t, "a\0b", 3, &err));
    assert_int_equal(t.len, 3000);
    assert_int_equal(t.data[3000], 0);
    for (size_t i = 0; i < t.len; i++) assert_int_equal(t.data[i], "a\0b"[i % 3]);
    mil_text_reset(&t);
    assert_int_equal(t.len, 0);
    assert_string_equal(t.data, "");
    mil_text_release(&t);
    assert_null(t.data);
    mil_text_release(&t);
}

static void text_survives_lack_of_memory(void **state) {
    (void)state;
    struct mil_error err;
    struct mil_text t = {0};
    assert_ok(mil_text_add(&t, "kept", 4, &err));
    static const char big[10000];
    mem_fail_after(0);
    enum mil_status st = mil_text_add(&t, big, sizeof big, &err);
    mem_fail_after(-1);
    assert_int_equal(st, MIL_NOMEM);
    assert_string_equal(t.data, "kept");
    assert_int_equal(mil_text_add(&t, big, SIZE_MAX, &err), MIL_NOMEM);
    mil_text_release(&t);
}

static void ids_are_parsed(void **state) {
    (void)state;
    struct mil_error err;
    struct mil_ids ids = {0};
    assert_ok(mil_ids_parse(&ids, " 1, 2\n[3 2147483647]\t0 ", &err));
    const int32_t want[] = {1, 2, 3, INT32_MAX, 0};
    assert_int_equal(ids.n, 5);
    assert_memory_equal(ids.ids, want, sizeof want);
    assert_ok(mil_ids_parse(&ids, "", &err));
    assert_ok(mil_ids_parse(&ids, " ,\n", &err));
    assert_int_equal(ids.n, 5);
    assert_fails(mil_ids_parse(&ids, "7 8x", &err), MIL_USAGE, "'8x'");
    assert_int_equal(err.offset, 2);
    assert_fails(mil_ids_parse(&ids, "-1", &err), MIL_USAGE, "'-1'");
    assert_fails(mil_ids_parse(&ids, "2147483648", &err), MIL_USAGE, "2147483648");
    assert_fails(mil_ids_parse(&ids, "99999999999999999999", &err), MIL_USAGE, "no token id");
    assert_fails(mil_ids_parse(&ids, "0x10", &err), MIL_USAGE, "'0x10'");
    mil_ids_release(&ids);
}

static void files_are_read_and_written(void **state) {
    (void)state;
    struct mil_error err;
    char path[600];
    snprintf(path, sizeof path, "%s/file", test_tmp_dir());
    assert_ok(mil_file_write(path, "one\ntwo", 7, &err));
    struct mil_text t = {0};
    assert_ok(mil_text_add(&t, ">", 1, &err));
    assert_ok(mil_text_read(&t, path, 7, &err));
    assert_string_equal(t.data, ">one\ntwo");
    assert_fails(mil_text_read(&t, path, 6, &err), MIL_INPUT, path);
    assert_fails(mil_text_read(&t, "/nonexistent/file", 7, &err), MIL_ACCESS, "/nonexistent/file");
    assert_int_equal(t.len, 8);
    mil_text_release(&t);
}

static void names_and_numbers(void **state) {
    (void)state;
    const char *const names[] = {"milora", "pissa", "lora"};
    assert_string_equal(mil_nearest("milroa", names, 3), "milora");
    assert_null(mil_nearest("transformer", names, 3));
    char buf[32];
    assert_string_equal(mil_format_bytes(buf, 1536), "1.5 KiB");
    assert_true(mil_template_names()[0] != NULL);
    assert_null(mil_alloc(SIZE_MAX, 2));
    unsigned char *p = mil_alloc(100, 3);
    assert_non_null(p);
    for (int i = 0; i < 300; i++) assert_int_equal(p[i], 0);
    mil_free(p);
    mil_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_and_keeps_nuls),
        cmocka_unit_test(text_survives_lack_of_memory),
        cmocka_unit_test(ids_are_parsed),
        cmocka_unit_test(files_are_read_and_written),
        cmocka_unit_test(names_and_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
