/* SPDX-License-Identifier: Apache-2.0 */
/* test_tables.c - tokenizer.json is read without a tree of its large tables: what is accepted must be
 * JSON to jansson too, what is refused must be refused for the reason that a tree would show, and the
 * same tables written in another way must give the same tokenizer. */
#include "check.h"

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "text/json_pull.h"
#include "text/tokenizer.h"

static struct mil_error err;
static char path[1024];

static enum mil_status open_text(const char *text, size_t n, struct tokenizer **t) {
    struct str dir = {0};
    str_addf(&dir, "%s", path);
    *strrchr(dir.data, '/') = 0;
    FILE *f = fopen(path, "w"); /* thousands of them: file_write would sync each */
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    enum mil_status st = tokenizer_open_dir(dir.data, t, &err);
    str_release(&dir);
    return st;
}

/* A small file; every argument is JSON text. */
static enum mil_status open_model(const char *vocab, const char *merges, const char *after,
                                  struct tokenizer **t) {
    struct str s = {0};
    str_addf(&s, "{\"added_tokens\": [], \"model\": {\"type\": \"BPE\", \"vocab\": %s, ", vocab);
    str_addf(&s, "\"merges\": %s%s}, \"decoder\": {\"type\": \"ByteLevel\"}, ", merges, after);
    str_add(&s, "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}}");
    memset(&err, 0, sizeof err);
    enum mil_status st = open_text(str_c(&s), s.len, t);
    str_release(&s);
    return st;
}

#define LETTERS "{\"a\": 0, \"b\": 1, \"ab\": 2, \"\u0120\": 3, \"\u0120ab\": 4}"

static void expect(const char *vocab, const char *merges) {
    struct tokenizer *t = NULL;
    struct tokens k = {0};
    assert_ok(open_model(vocab, merges, "", &t));
    assert_ok(tokenizer_encode(t, "ab ab", 5, 0, &k, &err));
    assert_int_equal(k.n, 2);
    assert_int_equal(k.ids[0], 2);
    assert_int_equal(k.ids[1], 4);
    assert_int_equal(k.starts[1], 2);
    tokens_release(&k);
    tokenizer_free(&t);
}

static void test_spellings(void **state) {
    (void)state;
    expect(LETTERS, "[\"a b\", \"\u0120 ab\"]");
    expect(LETTERS, " [ [ \"a\" , \"b\" ] ,\n[\"\u0120\",\"ab\"]\t]");
    expect("{\"\\u0061\": 0, \"b\":1,\"a\\u0062\":2,\"\\u0120\":3,\"\\u0120a\\u0062\" : 4 }",
           "[\"\\u0061 b\", [\"\\u0120\", \"a\\u0062\"]]");
    /* The order of the pieces and gaps between ids do not matter; a piece may be an added token. */
    expect(
        "{\"\u0120ab\": 4, \"a\": 70, \"<x>\\ud83d\\ude00\": 9, \"ab\": 2, \"b\": 60, \"\u0120\": "
        "50}",
        "[\"a b\", \"\u0120 ab\"]");
}

static void refuse(const char *vocab, const char *merges, const char *after, const char *part) {
    struct tokenizer *t = NULL;
    assert_fails(open_model(vocab, merges, after, &t), MIL_INPUT, part);
    assert_null(t);
    assert_non_null(strstr(err.message, path));
}

static void test_refusals(void **state) {
    (void)state;
    refuse("[]", "[]", "", "model.vocab is not an object");
    refuse("{}", "{}", "", "model.merges is not an array");
    refuse("{\"a\": 1.5}", "[]", "", "the id of 'a' is no integer");
    refuse("{\"a\": 1e3}", "[]", "", "the id of 'a' is no integer");
    refuse("{\"a\": \"1\"}", "[]", "", "the id of 'a' is no integer");
    refuse("{\"a\": 99999999999999999999}", "[]", "", "the id of 'a' is no integer");
    refuse("{\"a\": -1}", "[]", "", "outside [0,");
    refuse("{\"a\": 1, \"b\": 1}", "[]", "", "given twice ('a' and 'b')");
    refuse(LETTERS, "[\"a b\", \"a c\"]", "", "merge 1 ('a' with 'c')");
    refuse(LETTERS, "[\"a b\", \"ab\"]", "", "model.merges[1] is neither");
    refuse(LETTERS, "[\"a b\", \"a  b\"]", "", "model.merges[1] is neither");
    refuse(LETTERS, "[\"a b\", 7]", "", "model.merges[1] is neither");
    refuse(LETTERS, "[\"a b\", [\"a\"]]", "", "model.merges[1] is neither");
    refuse(LETTERS, "[\"a b\", [\"a\", \"b\", \"b\"]]", "", "model.merges[1] is neither");
    /* What is no JSON is told by its place in the file. */
    refuse("{\"a\": 01}", "[]", "", "line 1, column");
    refuse("{\"a\": 0,}", "[]", "", "line 1, column");
    refuse("{\"a\" 0}", "[]", "", "line 1, column");
    refuse("{\"a\\x\": 0}", "[]", "", "line 1, column");
    refuse("{\"a\\ud800\": 0}", "[]", "", "line 1, column");
    refuse("{\"a\\u0000\": 0}", "[]", "", "line 1, column");
    refuse("{\"a\n\": 0}", "[]", "", "line 1, column");
    refuse(LETTERS, "[\"a b\" \"a b\"]", "", "line 1, column");
    refuse(LETTERS, "[\"a b\",]", "", "line 1, column");
    refuse(LETTERS, "[\"a b\"}", "", "line 1, column");
    refuse("{\"a\xff\": 0}", "[]", "", "invalid UTF-8");
    /* A key given twice: a piece of bytes, one that no merge can reach, a table. */
    refuse("{\"a\": 0, \"b\": 1, \"a\": 2}", "[]", "", "duplicate object key");
    refuse("{\"a b\": 0, \"b\": 1, \"a b\": 2}", "[]", "", "duplicate object key");
    refuse(LETTERS, "[\"a b\"]", ", \"vocab\": {}", "duplicate object key");
    refuse(LETTERS, "[\"a b\"]", ", \"merges\": []", "duplicate object key");
}

/* Every byte of a real file changed to each of a few that mean something: whatever opens is JSON, and
 * whatever is no JSON is refused as that. */
static void test_changed_bytes(void **state) {
    (void)state;
    static const char with[] = "\"\\{}[],: 0-x\n\x80";
    struct str text = {0};
    assert_ok(file_read(TEST_DATA "/small-bytes/tokenizer.json", 1 << 20, &text, &err));
    size_t step = 13, opened = 0; /* prime: it meets every kind of place in the rows */
    for (size_t at = 0; at < text.len; at += step) {
        char was = text.data[at];
        text.data[at] = with[at / step % (sizeof with - 1)];
        struct tokenizer *t = NULL;
        json_t *tree = NULL;
        struct mil_error json_err = {0};
        memset(&err, 0, sizeof err);
        enum mil_status st = open_text(text.data, text.len, &t);
        enum mil_status json = json_read_text(text.data, text.len, path, &tree, &json_err);
        if (json != MIL_OK) {
            assert_int_equal(st, json);
            assert_string_equal(err.message, json_err.message);
        }
        opened += st == MIL_OK;
        text.data[at] = was;
        tokenizer_free(&t);
        json_decref(tree);
    }
    assert_true(opened > 10); /* a letter of a piece, a digit of an id, white space */
    str_release(&text);
}

/* The reader against jansson: strings and integers, alone. */
static void test_pull(void **state) {
    (void)state;
    static const char *const texts[] = {"\"\"",
                                        "\"a\\/\\b\\f\\n\\r\\t\\\\\\\"z\"",
                                        "\"\\u00e9\\ud83d\\ude00\\u20AC\"",
                                        "\"\x7f\"",
                                        "\"\\ud83d\"",
                                        "\"\\udc00\"",
                                        "\"\\u12g4\"",
                                        "\"\\u123",
                                        "\"a",
                                        "\"a\\",
                                        "\"\\a\"",
                                        "\"\\u0000\""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct json_pull p = {texts[i], strlen(texts[i]), 0};
        struct json_string s;
        struct str spare = {0};
        json_t *want = NULL;
        bool good = json_read_text(p.text, p.n, "text", &want, NULL) == MIL_OK;
        assert_int_equal(pull_string(&p, &spare, &s), good);
        if (good) {
            assert_int_equal(s.n, json_string_length(want));
            assert_memory_equal(s.data, json_string_value(want), s.n);
        }
        str_release(&spare);
        json_decref(want);
    }
    static const struct {
        const char *text;
        bool good;
        int64_t value;
    } numbers[] = {{"0", true, 0},
                   {"-0", true, 0},
                   {" 12,", true, 12},
                   {"9223372036854775807", true, INT64_MAX},
                   {"-9223372036854775808", true, INT64_MIN},
                   {"9223372036854775808", false, 0},
                   {"-9223372036854775809", false, 0},
                   {"-", false, 0},
                   {"- 1", false, 0},
                   {"007", false, 0},
                   {"1.0", false, 0},
                   {"1e2", false, 0},
                   {"", false, 0}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct json_pull p = {numbers[i].text, strlen(numbers[i].text), 0};
        int64_t value = 0;
        assert_int_equal(pull_integer(&p, &value), numbers[i].good);
        if (numbers[i].good) assert_int_equal(value, numbers[i].value);
    }
}

int main(void) {
    snprintf(path, sizeof path, "%s/tokenizer.json", test_tmp_dir());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_changed_bytes), cmocka_unit_test(test_pull)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
