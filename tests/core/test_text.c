/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, UTF-8, suggestions, and the texts of errors. */
#include "check.h"

#include <errno.h>

#include "core/mem.h"
#include "core/str.h"

static void strings_grow_and_remember_failure(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct str s = {0};
    assert_string_equal(str_c(&s), "");
    for (int i = 0; i < 1000; i++) str_addf(&s, "%d,", i);
    str_addn(&s, "a\0b", 3);
    assert_int_equal(s.len, 10 * 2 + 90 * 3 + 900 * 4 + 3);
    assert_int_equal(s.data[s.len], 0);
    assert_ok(str_status(&s, &err));
    size_t len = s.len;
    mem_fail_after(0);
    while (!s.failed) str_add(&s, "more and more");
    str_add(&s, "x");
    mem_fail_after(-1);
    assert_true(s.len >= len); /* what was there is kept */
    assert_fails(str_status(&s, &err), MIL_NOMEM, "out of memory");
    assert_null(str_take(&s));
    str_reset(&s);
    str_add(&s, "again");
    char *taken = str_take(&s);
    assert_string_equal(taken, "again");
    assert_true(s.len == 0 && s.data == NULL);
    mem_free(taken);
    str_release(&s);
}

/* Every scalar value goes there and back; nothing else decodes. */
static void utf8_takes_all_scalars_and_nothing_else(void **state) {
    (void)state;
    struct str s = {0};
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c <= 0xdfff) continue;
        str_reset(&s);
        str_add_utf8(&s, c);
        uint32_t back = 0;
        assert_int_equal(utf8_decode(s.data, s.len, &back), s.len);
        assert_int_equal(back, c);
        assert_int_equal(utf8_decode(s.data, s.len - 1, &back), 0); /* cut */
    }
    str_release(&s);
    static const struct {
        const char *text;
        size_t n, good;
    } bad[] = {
        {"ab\x80", 3, 2},
        {"\xc0\x80", 2, 0},
        {"\xc1\xbf", 2, 0},
        {"\xe0\x9f\xbf", 3, 0},
        {"\xed\xa0\x80", 3, 0},
        {"\xed\xbf\xbf", 3, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xf4\x90\x80\x80", 4, 0},
        {"\xf5\x80\x80\x80", 4, 0},
        {"a\xe2\x82", 3, 1},
        {"\xff", 1, 0},
        {"\xc3\x28", 2, 0},
        {"a\0b", 3, 3},
        {"", 0, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(utf8_valid_prefix(bad[i].text, bad[i].n), bad[i].good);
}

static void misspellings_find_their_word(void **state) {
    (void)state;
    static const char *const names[] = {"learning_rate", "lora_alpha", "r", "seed"};
    assert_string_equal(str_nearest("learning_rat", names, 4), "learning_rate");
    assert_string_equal(str_nearest("laerning_rate", names, 4), "learning_rate");
    assert_string_equal(str_nearest("lora-alpha", names, 4), "lora_alpha");
    assert_null(str_nearest("zzzzzz", names, 4));
    assert_int_equal(str_distance("abcd", "acbd"), 1);
    assert_int_equal(str_distance("", "abc"), 3);
    assert_true(str_starts("abc", "ab") && !str_starts("a", "ab"));
    assert_true(str_ends("abc", "bc") && !str_ends("c", "bc"));
}

static void quantities_are_readable(void **state) {
    (void)state;
    char buf[32];
    assert_string_equal(format_bytes(buf, 512), "512 B");
    assert_string_equal(format_bytes(buf, 1536), "1.5 KiB");
    assert_string_equal(format_seconds(buf, 12.34), "12.3 s");
    assert_string_equal(format_seconds(buf, 185), "3m 05s");
    assert_string_equal(format_seconds(buf, 3725), "1h 02m");
    assert_string_equal(format_seconds(buf, -1), "?");
}

static void errors_say_what_and_where(void **state) {
    (void)state;
    struct mil_error err = {0};
    assert_int_equal(error_set_at(&err, MIL_INPUT, 7, "value %d", 3), MIL_INPUT);
    assert_true(err.status == MIL_INPUT && err.offset == 7);
    assert_int_equal(error_prefix(&err, "%s: ", "f.json"), MIL_INPUT);
    assert_string_equal(err.message, "f.json: value 3");
    assert_int_equal(err.offset, 7);
    error_set(&err, MIL_USAGE, "a\nb\x1b[2J");
    assert_string_equal(err.message, "a?b?[2J");
    assert_int_equal(err.offset, -1);
    char *big = malloc(5000);
    memset(big, 'x', 4999);
    big[4999] = 0;
    error_set(&err, MIL_USAGE, "%s", big);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    error_prefix(&err, "%s", big);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    free(big);
    assert_int_equal(error_errno(&err, ENOENT, "%s", "x"), MIL_ACCESS);
    assert_string_equal(err.message, "x: No such file or directory");
    assert_int_equal(error_errno(&err, ENOSPC, "x"), MIL_IO);
    assert_int_equal(error_errno(&err, ENOMEM, "x"), MIL_NOMEM);
    assert_int_equal(error_set(NULL, MIL_IO, "x"), MIL_IO);
    assert_int_equal(error_prefix(NULL, "x"), MIL_OK);
}

static void every_status_has_name_text_and_exit_code(void **state) {
    (void)state;
#define CHECK_STATUS(name, code, text)                                                             \
    assert_string_equal(mil_status_name(name), #name);                                             \
    assert_string_equal(mil_status_text(name), text);                                              \
    assert_int_equal(mil_status_exit_code(name), code);
    MIL_STATUS_MAP(CHECK_STATUS)
#undef CHECK_STATUS
    assert_string_equal(mil_status_name((enum mil_status)99), "MIL_UNKNOWN");
    assert_int_equal(mil_status_exit_code((enum mil_status)99), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_grow_and_remember_failure),
        cmocka_unit_test(utf8_takes_all_scalars_and_nothing_else),
        cmocka_unit_test(misspellings_find_their_word),
        cmocka_unit_test(quantities_are_readable),
        cmocka_unit_test(errors_say_what_and_where),
        cmocka_unit_test(every_status_has_name_text_and_exit_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
