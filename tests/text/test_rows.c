/* SPDX-License-Identifier: Apache-2.0 */
/* test_rows.c - rows that are found first and parsed by all threads later give what one reader gives
 * that parses them one after the other: the same rows, and of a broken file the same message; and
 * encoding that remembers words gives the tokens of encoding that does not. */
#include "check.h"

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "text/dataset.h"
#include "text/dataset_split.h"

static struct mil_error err;
static char path[PATH_CAP];
static struct tokenizer *tok;

static struct tokenizer *open_small(const char *name) {
    char dir[PATH_CAP];
    struct tokenizer *t = NULL;
    snprintf(dir, sizeof dir, "%s/%s", TEST_DATA, name);
    assert_ok(tokenizer_open_dir(dir, &t, &err));
    return t;
}

static void write_rows(const struct str *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text->data, 1, text->len, f), text->len);
    assert_int_equal(fclose(f), 0);
}

/* Rows with what a careless search for their end would stumble over. */
static void make_rows(struct str *out, bool array, int n) {
    static const char *const odd[] = {"}",       "{\\\"",        "\\\\",  "\\\\\\\"}", "[\\\"]",
                                      "\\u007b", "\u4f60\u597d", "a\\nb", "]}],",      ""};
    static const char *const ends[] = {"\n", "\r\n", " \n\n", "\t\n"};
    str_reset(out);
    if (array) str_add(out, " [\n");
    for (int i = 0; i < n; i++) {
        if (array && i) str_add(out, i % 3 ? "," : " ,\n ");
        str_addf(out, "{\"prompt\": \"%d %s\",%s\"completion\": \"x%s\"", i, odd[i % 10],
                 i % 5 ? " " : "\n  ", odd[i / 10 % 10]);
        str_add(out, i % 4 ? "}" : ", \"more\": [{\"a\": [1, {\"}\": \"]\"}]}]}");
        if (!array) str_add(out, ends[i % 4]);
    }
    if (array) str_add(out, "\n]\n");
    assert_ok(str_status(out, &err));
}

static void expect_slices(bool array) {
    struct str text = {0};
    struct records one, all;
    struct row_slice slices[700];
    make_rows(&text, array, 600);
    write_rows(&text);
    assert_ok(records_open(&one, path, &err));
    assert_ok(records_open(&all, path, &err));
    assert_int_equal(records_split(&all, slices, 700, SIZE_MAX), 600);
    for (size_t i = 0; i < 600; i++) {
        json_t *want = NULL, *got = NULL;
        size_t used;
        struct records again = all;
        records_rewind(&again, &slices[i]);
        assert_int_equal(again.row, i);
        assert_ok(records_next(&again, &got, &err)); /* goes on from there */
        json_decref(got);
        assert_ok(records_next(&one, &want, &err));
        assert_ok(json_read_prefix((const char *)all.file.data + slices[i].begin, slices[i].n,
                                   "row", &got, &used, &err));
        assert_int_equal(used, slices[i].n);
        assert_true(json_equal(want, got));
        json_decref(want);
        json_decref(got);
    }
    json_t *end = NULL;
    assert_ok(records_next(&all, &end, &err));
    assert_null(end);
    records_close(&one);
    records_close(&all);
    str_release(&text);
}

static void test_slices(void **state) {
    (void)state;
    expect_slices(false);
    expect_slices(true);
    struct records r;
    struct row_slice slices[8];
    struct str text = {0};
    make_rows(&text, false, 8);
    write_rows(&text);
    assert_ok(records_open(&r, path, &err));
    assert_int_equal(records_split(&r, slices, 3, SIZE_MAX), 3); /* a number of rows, of bytes */
    assert_int_equal(records_split(&r, slices, 8, 1), 1);
    assert_int_equal(records_split(&r, slices, 8, SIZE_MAX), 4);
    assert_int_equal(records_split(&r, slices, 8, SIZE_MAX), 0);
    records_close(&r);
    str_release(&text);
}

/* What a reader of one row after the other meets: rows, and the error that ends them. */
static int64_t read_singly(struct mil_error *why) {
    struct records r;
    int64_t rows = 0;
    if (records_open(&r, path, why) != MIL_OK) return 0;
    for (json_t *json = NULL; records_next(&r, &json, why) == MIL_OK && json; rows++)
        json_decref(json);
    records_close(&r);
    return rows;
}

static void check_file(void) {
    struct mil_error why = {0};
    struct dataset_options o = {.max_length = 4096};
    struct dataset_source s = {path, "prompt_completion", -1, 0};
    struct dataset d;
    memset(&err, 0, sizeof err);
    assert_ok(template_find("alpaca", &o.template_, &err));
    int64_t rows = read_singly(&why);
    enum mil_status st = dataset_load(&s, 1, tok, &o, &d, &err);
    if (st == MIL_OK) {
        assert_int_equal(why.status, MIL_OK);
        assert_int_equal(d.counts.rows, rows);
        dataset_release(&d);
        return;
    }
    /* The broken row's message, unless a row before it is JSON but none of this format. */
    const char *at = strstr(err.message, "row ");
    int64_t row = at ? strtoll(at + 4, NULL, 10) : 0;
    if (why.status != MIL_OK && (!at || row > rows)) {
        assert_int_equal(st, why.status);
        assert_string_equal(err.message, why.message);
        assert_int_equal(err.offset, why.offset);
    } else {
        assert_true(row <= rows);
    }
}

static void test_broken(void **state) {
    (void)state;
    static const char with[] = "\"\\{}[],:\n x\x80";
    struct str text = {0};
    uint32_t x = 2463534242u; /* xorshift: any spread of places will do */
    for (int array = 0; array < 2; array++) {
        make_rows(&text, array, 300);
        for (int i = 0; i < 150; i++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            size_t at = x % text.len, len = text.len;
            char was = text.data[at];
            text.data[at] = with[(size_t)i % (sizeof with - 1)];
            if (i % 10 == 9) text.len = at; /* cut off */
            write_rows(&text);
            check_file();
            text.len = len;
            text.data[at] = was;
        }
    }
    str_release(&text);
}

/* Two rows on a line, a row that is none, text behind the list: each after more than a batch. */
static void test_late_errors(void **state) {
    (void)state;
    static const char *const tails[] = {"{} {}\n",
                                        "7\n",
                                        "\"x\"\n",
                                        "{\"prompt\": 1}\n",
                                        "{\"a\": tru}\n",
                                        "{\"a\": \"\xff\"}\n",
                                        "{\"prompt\": \"a\", \"completion\": \"b\""};
    struct str text = {0};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        make_rows(&text, false, 700);
        str_add(&text, tails[i]);
        write_rows(&text);
        check_file();
        assert_non_null(strstr(err.message, "row 701"));
    }
    str_release(&text);
}

/* Twice through one scratch, and back: the second time most words are remembered. */
static void test_remembered(void **state) {
    (void)state;
    static const char *const names[] = {"small-bytes", "small-sp", "small-meta", "small-model"};
    json_t *texts = NULL;
    assert_ok(json_read_file(TEST_DATA "/texts.json", &texts, &err));
    for (size_t k = 0; k < 4; k++) {
        struct tokenizer *t = open_small(names[k]);
        struct tokens plain = {0}, again = {0};
        assert_ok(tokenizer_scratch_new(t, &again.scratch, &err));
        for (size_t i = 0; i < 3 * json_array_size(texts); i++) {
            const json_t *text = json_array_get(texts, i % json_array_size(texts));
            const char *s = json_string_value(text);
            unsigned flags = (unsigned)(i % 4);
            assert_ok(tokenizer_encode(t, s, strlen(s), flags, &plain, &err));
            assert_ok(tokenizer_encode(t, s, strlen(s), flags, &again, &err));
            assert_int_equal(plain.n, again.n);
            assert_memory_equal(plain.ids, again.ids, plain.n * sizeof *plain.ids);
            assert_memory_equal(plain.starts, again.starts, plain.n * sizeof *plain.starts);
        }
        tokenizer_scratch_free(&again.scratch);
        tokens_release(&plain);
        tokens_release(&again);
        tokenizer_free(&t);
    }
    json_decref(texts);
}

int main(void) {
    snprintf(path, sizeof path, "%s/rows", test_tmp_dir());
    tok = open_small("small-bytes");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_slices), cmocka_unit_test(test_broken),
                                       cmocka_unit_test(test_late_errors),
                                       cmocka_unit_test(test_remembered)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tokenizer_free(&tok);
    return failed;
}
