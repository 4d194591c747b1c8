/* SPDX-License-Identifier: Apache-2.0 */
/* What JSON is accepted, what is refused where, and that numbers and texts survive writing. */
#include "check.h"

#include <math.h>

#include "core/rng.h"
#include "io/file.h"
#include "io/json.h"

static enum mil_status parse(const char *text, json_t **out, struct mil_error *err) {
    return json_read_text(text, strlen(text), "t.json", out, err);
}

static void numbers_keep_their_kind(void **state) {
    (void)state;
    struct mil_error err = {0};
    json_t *v;
    /* tokenizer_config.json files hold the third one */
    assert_ok(parse(
        "\xef\xbb\xbf[9223372036854775807, -9223372036854775808, 1000000000000000019884624838656, "
        "-9223372036854775809, 1.5, \"99999999999999999999\\\"9\", 2e3]",
        &v, &err));
    assert_true(json_integer_value(json_array_get(v, 0)) == INT64_MAX);
    assert_true(json_integer_value(json_array_get(v, 1)) == INT64_MIN);
    assert_true(json_real_value(json_array_get(v, 2)) == 1000000000000000019884624838656.0);
    assert_true(json_real_value(json_array_get(v, 3)) == -9223372036854775808.0);
    assert_true(json_real_value(json_array_get(v, 4)) == 1.5);
    assert_string_equal(json_string_value(json_array_get(v, 5)), "99999999999999999999\"9");
    assert_true(json_is_real(json_array_get(v, 6)));
    json_decref(v);
}

static void broken_text_is_refused_with_its_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
        int64_t offset; /* -2: not asserted */
    } table[] = {
        {"", "t.json: line 1", -2},
        {"{\"a\": 1,}", "line 1, column 9", 9},
        {"{\"a\": 1\n\"b\": 2}", "line 2, column 3", -2},
        {"{\"a\": 1, \"a\": 2}", "duplicate object key", -2},
        {"[1] x", "end of file expected", -2},
        {"[\"ab\xff\"]", "invalid UTF-8 at byte 4 (0xff)", 4},
        {"[\"\xed\xa0\x80\"]", "invalid UTF-8 at byte 2", 2},
        {"[\"a\\u0000b\"]", "\\u0000", -2},
        {"{\"a\\u0000b\": 1}", "u0000", -2},
        {"[1e999]", "overflow", -2},
        {"[NaN]", "NaN", -2},
        {"[01]", "line 1", -2},
        {"{'a': 1}", "line 1", -2},
        {"[\"open", "line 1", -2},
        {"[1", "line 1", -2},
        {"[99999999999999999999, 1", "line 1", -2},
    };
    struct mil_error err;
    json_t *v;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_fails(parse(table[i].text, &v, &err), MIL_INPUT, table[i].part);
        assert_non_null(strstr(err.message, "t.json: line"));
        assert_null(v);
        if (table[i].offset != -2) assert_int_equal(err.offset, table[i].offset);
    }
    char *deep = malloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = 0;
    assert_fails(parse(deep, &v, &err), MIL_INPUT, "depth");
    free(deep);
    assert_fails(json_read_file("no-such-file.json", &v, &err), MIL_ACCESS, "no-such-file.json");
}

static void members_are_typed_and_bounded(void **state) {
    (void)state;
    struct mil_error err = {0};
    json_t *o;
    assert_ok(parse("{\"n\": 5, \"x\": 0.5, \"b\": true, \"s\": \"text\", \"z\": null}", &o, &err));
    int64_t n = 1;
    double x = 1;
    bool b = false;
    const char *s = NULL;
    assert_ok(json_member_i64(o, "c", "n", true, 0, 5, &n, &err));
    assert_ok(json_member_f64(o, "c", "x", true, 0, 1, &x, &err));
    assert_ok(json_member_bool(o, "c", "b", true, &b, &err));
    assert_ok(json_member_str(o, "c", "s", true, &s, &err));
    assert_true(n == 5 && x == 0.5 && b && strcmp(s, "text") == 0);
    assert_ok(json_member_f64(o, "c", "n", true, 0, 5, &x, &err));
    assert_true(x == 5);
    assert_ok(json_member_i64(o, "c", "absent", false, 0, 9, &n, &err));
    assert_ok(json_member_i64(o, "c", "z", false, 0, 9, &n, &err));
    assert_int_equal(n, 5); /* untouched */
    assert_fails(json_member_i64(o, "c", "absent", true, 0, 9, &n, &err), MIL_INPUT,
                 "c: key 'absent' is missing");
    assert_fails(json_member_i64(o, "c", "z", true, 0, 9, &n, &err), MIL_INPUT, "missing");
    assert_fails(json_member_i64(o, "c", "n", true, 6, 9, &n, &err), MIL_INPUT,
                 "c: 'n' is 5, must be from 6 to 9");
    assert_fails(json_member_i64(o, "c", "x", true, 0, 9, &n, &err), MIL_INPUT,
                 "'x' must be an integer, but is a fraction");
    assert_fails(json_member_i64(o, "c", "s", true, 0, 9, &n, &err), MIL_INPUT,
                 "the text \"text\"");
    assert_fails(json_member_f64(o, "c", "x", true, 1, 2, &x, &err), MIL_INPUT, "is 0.5, must be");
    assert_fails(json_member_bool(o, "c", "n", true, &b, &err), MIL_INPUT, "true or false");
    assert_fails(json_member_str(o, "c", "b", true, &s, &err), MIL_INPUT, "must be text");
    assert_fails(json_member_str(json_object_get(o, "n"), "c", "b", true, &s, &err), MIL_INPUT,
                 "c: must be an object");
    json_decref(o);
}

static void written_text_is_short_and_exact(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct str out = {0};
    json_t *v;
    static const char text[] = "{\"b\": 0.05, \"a\": [1, 2.0, 3e-4, 1e+100, null, true], \"s\": "
                               "\"q\\\"\\\\\\n\\u0001é/\", \"e\": {}, \"l\": []}";
    assert_ok(parse(text, &v, &err));
    json_append(v, -1, &out);
    assert_string_equal(str_c(&out),
                        "{\"b\": 0.05, \"a\": [1, 2.0, 0.0003, 1e+100, null, true], \"s\": "
                        "\"q\\\"\\\\\\n\\u0001é/\", \"e\": {}, \"l\": []}");
    char path[PATH_CAP];
    const char *dir = test_tmp_dir();
    assert_ok(path_join(path, dir, "f.json", &err));
    assert_ok(json_write_file(path, v, &err));
    str_reset(&out);
    assert_ok(file_read(path, 10000, &out, &err));
    assert_true(strncmp(out.data, "{\n  \"b\": 0.05,\n  \"a\": [\n    1,\n", 31) == 0);
    assert_string_equal(out.data + out.len - 2, "}\n");
    json_t *back;
    assert_ok(json_read_file(path, &back, &err));
    assert_true(json_equal(v, back));
    json_decref(v);
    json_decref(back);
    assert_ok(dir_remove(dir, &err));
    for (uint64_t i = 0; i < 20000; i++) {
        struct rng_words w = rng_words(3, rng_stream(RNG_TEST, 0), 0, i);
        double x;
        memcpy(&x, &w, sizeof x);
        if (!isfinite(x)) continue;
        str_reset(&out);
        json_append_real(x, &out);
        assert_true(strtod(out.data, NULL) == x);
    }
    str_release(&out);
}

static void a_prefix_is_read_and_measured(void **state) {
    (void)state;
    struct mil_error err = {0};
    json_t *v;
    size_t used = 0;
    static const char text[] = "{\"a\": \"}\"}\xff garbage";
    assert_ok(json_read_prefix(text, sizeof text - 1, "t", &v, &used, &err));
    assert_int_equal(used, 10);
    json_decref(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_keep_their_kind),
        cmocka_unit_test(broken_text_is_refused_with_its_place),
        cmocka_unit_test(members_are_typed_and_bounded),
        cmocka_unit_test(written_text_is_short_and_exact),
        cmocka_unit_test(a_prefix_is_read_and_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
