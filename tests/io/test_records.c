/* SPDX-License-Identifier: Apache-2.0 */
/* Rows one at a time, from lines and from an array; broken files named by row and byte; the cost of
 * a long array is linear. */
#define FILE_NAME "rows.json"
#include "hostile.h"

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "io/records.h"

static void put(const char *text, size_t n) {
    put_bytes(path, text, n);
}

/* Read all rows; their number, or -1 with err filled. */
static int64_t read_all(const char *file, struct mil_error *err) {
    struct records r;
    json_t *row;
    if (records_open(&r, file, err) != MIL_OK) return -1;
    for (;;) {
        if (records_next(&r, &row, err) != MIL_OK) {
            assert_null(row);
            records_close(&r);
            return -1;
        }
        if (!row) break;
        assert_true(json_is_object(row));
        json_decref(row);
    }
    int64_t n = r.row;
    assert_int_equal(records_next(&r, &row, err), MIL_OK); /* the end stays the end */
    assert_null(row);
    records_close(&r);
    return n;
}

static void rows_of_both_shapes_are_read(void **state) {
    (void)state;
    struct mil_error err = {0};
    static const struct {
        const char *text;
        int64_t rows;
    } table[] = {
        {"{\"a\": 1}\n{\"a\": 2}\n", 2},
        {"{\"a\": 1}\r\n\r\n  {\"a\": 2}", 2},
        {"{\n \"a\": 1\n}\n{\"a\": [\n]}\n", 2},
        {"\xef\xbb\xbf{\"a\": 1}\n", 1},
        {"[]", 0},
        {" [ ] \n", 0},
        {"[{\"a\": 1}]", 1},
        {"\n[\n{\"a\": \"]},{\"} ,\n{} , {\"b\": {}}\n]\n", 3},
        {"\xef\xbb\xbf[{}]", 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        put(table[i].text, strlen(table[i].text));
        int64_t n = read_all(path, &err);
        if (n != table[i].rows) fail_msg("'%s': %d rows (%s)", table[i].text, (int)n, err.message);
    }
}

static void broken_files_are_named_by_row_and_byte(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
        int64_t offset; /* -2: not asserted */
    } table[] = {
        {"", "is empty", 0},
        {" \n ", "is empty", 3},
        {"text", "neither JSON Lines nor a JSON array", 0},
        {"\"text\"", "neither", 0},
        {"{\"a\": 1}\n[1]\n", "row 2, byte 9: a row must be a JSON object", 9},
        {"{\"a\": 1} {\"a\": 2}\n", "row 1, byte 9: more text on the line", 9},
        {"{\"a\": 1}\n{\"a\": 1,}\n", "row 2, byte 9: line 1, column 9", 18},
        {"{\"a\": 1}\n{\"a\": \"\xff\"}\n", "invalid UTF-8", 16},
        {"{\"a\": 1}\n{\"a\": 1, \"a\": 2}\n", "duplicate object key", -2},
        {"{\"a\": 1}\n{\"a\"", "row 2, byte 9", -2},
        {"[{\"a\": 1}", "row 2, byte 9: ',' or ']' expected", 9},
        {"[{\"a\": 1},", "row 2, byte 10: the file ends inside the array", 10},
        {"[{\"a\": 1},]", "row 2, byte 10: a row must be", 10},
        {"[,{\"a\": 1}]", "row 1, byte 1: a row must be", 1},
        {"[{\"a\": 1} {\"a\": 1}]", "row 2, byte 10: ',' or ']'", 10},
        {"[{\"a\": 1}, 5]", "row 2, byte 11: a row must be", 11},
        {"[{\"a\": 1}] x", "more text after the end", 11},
        {"[", "the file ends inside", 1},
        {"[{\"a\": \"\\ud800\"}]", "row 1", -2},
    };
    struct mil_error err;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        memset(&err, 0, sizeof err);
        put(table[i].text, strlen(table[i].text));
        assert_int_equal(read_all(path, &err), -1);
        assert_int_equal(err.status, MIL_INPUT);
        assert_non_null(strstr(err.message, "rows.json: "));
        if (!strstr(err.message, table[i].part))
            fail_msg("'%s': '%s' lacks '%s'", table[i].text, err.message, table[i].part);
        if (table[i].offset != -2 && err.offset != table[i].offset)
            fail_msg("'%s': offset %d, want %d", table[i].text, (int)err.offset,
                     (int)table[i].offset);
    }
    put("[{\"a\0\": 1}]", 11);
    memset(&err, 0, sizeof err);
    assert_int_equal(read_all(path, &err), -1);
    assert_int_equal(err.status, MIL_INPUT);
    struct records r;
    assert_fails(records_open(&r, dir, &err), MIL_ACCESS, "is a directory");
}

static void read_array_of(int rows) {
    struct mil_error err = {0};
    struct str text = {0};
    str_addc(&text, '[');
    for (int i = 0; i < rows; i++)
        str_addf(&text, "%s{\"instruction\": \"row %d\", \"output\": \"some text\"}", i ? "," : "",
                 i);
    str_addc(&text, ']');
    put(text.data, text.len);
    str_release(&text);
    assert_int_equal(read_all(path, &err), rows);
}

/* 300,000 rows, 16 MB: were each row to look at all before it, 2 TB together, this would not end.  And the memory is
 * that of one row. */
static void a_long_array_costs_linear_time_and_no_memory(void **state) {
    (void)state;
    read_array_of(4000);
    size_t before = mem_stats(MEM_IO).peak;
    read_array_of(300000);
    assert_true(mem_stats(MEM_IO).peak <= before + 4096);
}

static void the_data_sets_have_their_rows(void **state) {
    (void)state;
    skip_without_data();
    static const struct {
        const char *name;
        int64_t rows;
    } table[] = {
        {"instruct/alpaca_5000.json", 5000},          {"math/gsm8k/train.jsonl", 7473},
        {"commonsense/boolq/train.json", 9427},       {"commonsense/hellaswag/train.json", 4000},
        {"commonsense/winogrande/train.json", 40398},
    };
    struct mil_error err = {0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char file[PATH_CAP];
        assert_ok(path_join(file, test_data_dir(), table[i].name, &err));
        if (!path_exists(file)) continue;
        int64_t n = read_all(file, &err);
        if (n != table[i].rows) fail_msg("%s: %d rows (%s)", file, (int)n, err.message);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(rows_of_both_shapes_are_read),
        TEST(broken_files_are_named_by_row_and_byte),
        TEST(a_long_array_costs_linear_time_and_no_memory),
        TEST(the_data_sets_have_their_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
