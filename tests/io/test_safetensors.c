/* SPDX-License-Identifier: Apache-2.0 */
/* Every rule of the header broken once, sharded checkpoints that disagree with their index, and
 * files of the writer and of the Python package read back. */
#define FILE_NAME "model.safetensors"
#include "hostile.h"

#include "core/dtype.h"
#include "io/json.h"
#include "io/safetensors.h"

/* A file with this header and n bytes of data. */
static void put_file(const char *file, const char *header, size_t n) {
    struct str s = {0};
    put_le(&s, strlen(header), 8);
    str_add(&s, header);
    for (size_t i = 0; i < n; i++) str_addc(&s, (char)i);
    flush_to(file, &s);
}

#define T(name, dtype, shape, from, to)                                                            \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to   \
    "]}"

static void a_sound_file_is_read(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct st_file *f;
    put_file(path,
             "{\"__metadata__\":{\"format\":\"pt\"}," T("b", "I64", "[]", 8, 16) "," T(
                 "a", "F32", "[2,1]", 0, 8) "," T("empty", "BF16", "[0,5]", 8, 8) "}   ",
             16);
    assert_ok(st_open(path, &f, &err));
    assert_int_equal(st_count(f), 3);
    assert_string_equal(st_at(f, 0)->name, "a"); /* in file order */
    assert_string_equal(st_at(f, 2)->name, "b");
    const struct st_tensor *t = st_find(f, "a");
    assert_true(t == st_at(f, 0) && t->dtype == DT_F32 && t->ndim == 2 && t->shape[0] == 2);
    assert_int_equal(((const unsigned char *)t->data)[7], 7);
    assert_true(st_find(f, "b")->ndim == 0 && st_find(f, "b")->bytes == 8);
    assert_int_equal(st_find(f, "empty")->bytes, 0);
    assert_null(st_find(f, "c"));
    assert_null(st_find(f, ""));
    assert_string_equal(st_metadata(f, "format"), "pt");
    assert_null(st_metadata(f, "x"));
    assert_int_equal(st_shards(f), 1);
    assert_string_equal(st_shard_name(f, 0), "model.safetensors");
    st_free(&f);
    assert_null(f);
    st_free(&f);
    put_file(path, "{}", 0);
    assert_ok(st_open(path, &f, &err));
    assert_true(st_count(f) == 0 && st_metadata(f, "x") == NULL && st_find(f, "x") == NULL);
    st_free(&f);
}

static void every_lie_of_a_header_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        enum mil_status status;
        const char *part;
        int64_t offset; /* -2: not asserted */
    } table[] = {
        {"", 0, MIL_INPUT, "must begin with '{'", 8},
        {" {}", 0, MIL_INPUT, "must begin with '{'", 8},
        {"[]", 0, MIL_INPUT, "must begin with '{'", 8},
        {"{", 0, MIL_INPUT, "header: line 1", -2},
        {"{} x", 0, MIL_INPUT, "end of file expected", -2},
        {"{\"a\xff\":1}", 0, MIL_INPUT, "invalid UTF-8", 11},
        {"{\"a\\u0000b\":1}", 0, MIL_INPUT, "u0000", -2},
        {"{\"a\":1}", 0, MIL_INPUT, "tensor 'a': its entry must be an object", -2},
        {"{\"a\":{}}", 0, MIL_INPUT, "tensor 'a': key 'dtype' is missing", -2},
        {"{\"a\":{\"dtype\":5}}", 0, MIL_INPUT, "'dtype' must be text", -2},
        {"{" T("a", "F8_E4M3", "[4]", 0, 4) "}", 4, MIL_UNSUPPORTED, "dtype 'F8_E4M3'", -2},
        {"{" T("a", "f32", "[1]", 0, 4) "}", 4, MIL_UNSUPPORTED, "dtype 'f32'", -2},
        {"{" T("a", "Q4_0", "[32]", 0, 18) "}", 18, MIL_UNSUPPORTED, "dtype 'Q4_0'", -2},
        {"{" T("a", "F32", "4", 0, 4) "}", 4, MIL_INPUT, "'shape' must be a list", -2},
        {"{" T("a", "F32", "[-1]", 0, 4) "}", 4, MIL_INPUT, "non-negative integers", -2},
        {"{" T("a", "F32", "[1.0]", 0, 4) "}", 4, MIL_INPUT, "non-negative integers", -2},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, MIL_UNSUPPORTED, "9 dimensions",
         -2},
        {"{" T("a", "F32", "[4294967296,4294967296]", 0, 4) "}", 4, MIL_INPUT, "overflows", -2},
        {"{" T("a", "F32", "[99999999999999999999]", 0, 4) "}", 4, MIL_INPUT, "non-negative", -2},
        {"{" T("a", "F32", "[2]", 0, 4) "}", 4, MIL_INPUT, "span 4 bytes, but shape", -2},
        {"{" T("a", "BF16", "[1]", 0, 4) "}", 4, MIL_INPUT, "dtype BF16 need 2", -2},
        {"{" T("a", "F32", "[1]", 4, 0) "}", 4, MIL_INPUT, "data_offsets [4, 0]", -2},
        {"{" T("a", "F32", "[1]", -4, 0) "}", 4, MIL_INPUT, "data_offsets [-4, 0]", -2},
        {"{" T("a", "F32", "[1]", 0, 4) "}", 3, MIL_INPUT, "leave the 3 bytes of data", 62},
        {"{" T("a", "F32", "[1]", 4, 8) "}", 8, MIL_INPUT, "leaves a hole before it", -2},
        {"{" T("a", "F32", "[1]", 0, 4) "}", 5, MIL_INPUT, "1 bytes after the last tensor", 66},
        {"{}", 1, MIL_INPUT, "1 bytes after the last tensor", 10},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 2, 6) "}", 8, MIL_INPUT,
         "tensor 'b': overlaps another", -2},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 0, 4) "}", 4, MIL_INPUT,
         "overlaps another", -2},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 6, 10) "}", 10, MIL_INPUT,
         "tensor 'b': leaves a hole", -2},
        {"{" T("a", "F32", "[1]", 0, 4) "," T("a", "F32", "[1]", 4, 8) "}", 8, MIL_INPUT,
         "duplicate object key", -2},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, MIL_INPUT, "must be two integers", -2},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, MIL_INPUT,
         "must be two integers", -2},
        {"{\"__metadata__\":[]}", 0, MIL_INPUT, "__metadata__ must be", -2},
        {"{\"__metadata__\":{\"a\":1}}", 0, MIL_INPUT, "__metadata__: 'a' must be a text", -2},
    };
    struct mil_error err;
    struct st_file *f;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        put_file(path, table[i].header, table[i].data);
        assert_fails(st_open(path, &f, &err), table[i].status, table[i].part);
        assert_null(f);
        assert_non_null(strstr(err.message, "model.safetensors: "));
        if (table[i].offset != -2 && err.offset != table[i].offset)
            fail_msg("%s: offset %d, want %d", err.message, (int)err.offset, (int)table[i].offset);
    }
}

static void sizes_of_the_header_are_bounded(void **state) {
    (void)state;
    static const struct {
        uint64_t claimed;
        const char *part;
    } table[] = {{3, "but only 2 bytes follow"},
                 {100000000, "but only 2 bytes follow"},
                 {100000001, "over the limit of 100000000"},
                 {UINT64_MAX, "over the limit"},
                 {UINT64_MAX - 7, "over the limit"},
                 {0, "must begin with '{'"}};
    struct mil_error err;
    struct st_file *f;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct str s = {0};
        put_le(&s, table[i].claimed, 8);
        str_add(&s, "{}");
        flush_to(path, &s);
        assert_fails(st_open(path, &f, &err), MIL_INPUT, table[i].part);
    }
    for (size_t n = 0; n < 8; n++) {
        put_bytes(path, "\2\0\0\0\0\0\0", n);
        assert_fails(st_open(path, &f, &err), MIL_INPUT, "too short");
        assert_int_equal(err.offset, 0);
    }
    struct str s = {0};
    put_le(&s, 200000, 8);
    for (int i = 0; i < 40000; i++) str_add(&s, "{\"a\":");
    flush_to(path, &s);
    assert_fails(st_open(path, &f, &err), MIL_INPUT, "depth");
    assert_fails(st_open("absent", &f, &err), MIL_ACCESS, "absent: cannot open");
}

/* Cut a sound file at every length: never accepted. */
static void no_prefix_of_a_file_is_accepted(void **state) {
    (void)state;
    struct mil_error err;
    struct st_file *f;
    struct str whole = {0};
    put_file(path, "{" T("a", "F32", "[2]", 0, 8) "," T("b", "U8", "[3]", 8, 11) "}", 11);
    assert_int_equal(file_read(path, 1000, &whole, &err), MIL_OK);
    for (size_t n = 0; n < whole.len; n++) {
        put_bytes(path, whole.data, n);
        assert_int_equal(st_open(path, &f, &err), MIL_INPUT);
    }
    str_release(&whole);
}

/* ---- checkpoints ---- */

static void put_shards(const char *index) {
    char file[PATH_CAP];
    snprintf(file, sizeof file, "%s/s2", dir);
    put_file(file, "{" T("b", "F32", "[1]", 0, 4) "}", 4);
    snprintf(file, sizeof file, "%s/s1", dir);
    put_file(file, "{\"__metadata__\":{\"format\":\"pt\"}," T("a", "U8", "[2]", 0, 2) "}", 2);
    snprintf(file, sizeof file, "%s/model.safetensors.index.json", dir);
    put_bytes(file, index, strlen(index));
}

static void shards_are_one_checkpoint(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct st_file *f;
    put_shards("{\"metadata\":{\"total_size\":6},\"weight_map\":{\"b\":\"s2\",\"a\":\"s1\"}}");
    assert_ok(st_open_checkpoint(dir, &f, &err));
    assert_true(st_count(f) == 2 && st_shards(f) == 2);
    assert_string_equal(st_shard_name(f, 0), "s1");
    assert_string_equal(st_at(f, 0)->name, "a");
    assert_true(st_find(f, "b")->shard == 1 && st_find(f, "a")->shard == 0);
    assert_string_equal(st_metadata(f, "format"), "pt");
    st_free(&f);
}

static void an_index_may_not_disagree_or_lead_away(void **state) {
    (void)state;
    static const struct {
        const char *index;
        enum mil_status status;
        const char *part;
    } table[] = {
        {"{}", MIL_INPUT, "'weight_map' must be an object"},
        {"[", MIL_INPUT, "index.json: line 1"},
        {"{\"weight_map\":{}}", MIL_INPUT, "names 0 shards"},
        {"{\"weight_map\":{\"a\":1}}", MIL_INPUT, "'a' must name a file"},
        {"{\"weight_map\":{\"a\":\"s1\"}}", MIL_OK, ""}, /* s2 is not looked at */
        {"{\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}", MIL_INPUT, "'b' is listed in s1, which"},
        {"{\"weight_map\":{\"a\":\"s2\",\"b\":\"s1\"}}", MIL_INPUT,
         "lies in s1, but is listed in s2"},
        {"{\"weight_map\":{\"a\":\"s1\",\"x\":\"s2\"}}", MIL_INPUT,
         "'b' lies in s2, but is listed nowhere"},
        {"{\"weight_map\":{\"a\":\"s1\",\"b\":\"s3\"}}", MIL_ACCESS, "s3: cannot open"},
        {"{\"weight_map\":{\"a\":\"../s1\"}}", MIL_INPUT, "'../s1' is not the plain name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", MIL_INPUT, "is not the plain name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", MIL_INPUT, "is not the plain name"},
        {"{\"weight_map\":{\"a\":\"\"}}", MIL_INPUT, "is not the plain name"},
        {"{\"weight_map\":{\"a\":\"s1\\u0000\"}}", MIL_INPUT, "u0000"},
    };
    struct mil_error err;
    struct st_file *f;
    assert_fails(st_open_checkpoint(dir, &f, &err), MIL_ACCESS, "holds neither model.safetensors");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        put_shards(table[i].index);
        assert_fails(st_open_checkpoint(dir, &f, &err), table[i].status, table[i].part);
        st_free(&f);
    }
    char file[PATH_CAP];
    put_shards("{\"weight_map\":{\"a\":\"s1\",\"b\":\"s2\"}}");
    snprintf(file, sizeof file, "%s/s2", dir);
    put_file(file, "{" T("a", "F32", "[1]", 0, 4) "}", 4);
    assert_fails(st_open_checkpoint(dir, &f, &err), MIL_INPUT, "tensor 'a' is in both s1 and s2");
}

/* ---- writing ---- */

static void what_is_written_reads_back(void **state) {
    (void)state;
    struct mil_error err = {0};
    static const struct st_decl decls[] = {{"b\"\\\n\xc3\xa9", DT_F32, 2, {2, 3}},
                                           {"a", DT_BF16, 1, {3}},
                                           {"none", DT_F32, 2, {0, 7}},
                                           {"scalar", DT_I64, 0, {0}}};
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    static const bf16 y[3] = {1, 2, 3};
    static const int64_t z = -9;
    json_t *meta = json_pack("{s:s, s:s}", "format", "pt", "k", "\"v\"");
    struct st_writer *w;
    struct st_file *f;
    assert_ok(st_writer_new(path, meta, decls, 4, &w, &err));
    assert_ok(st_writer_put(w, x, 5, &err)); /* pieces of any size */
    assert_ok(st_writer_put(w, (const char *)x + 5, 19, &err));
    assert_ok(st_writer_put(w, y, 6, &err));
    assert_false(path_exists(path));
    assert_ok(st_writer_put(w, &z, 8, &err));
    assert_ok(st_writer_commit(&w, &err));
    assert_null(w);
    assert_ok(st_open(path, &f, &err));
    assert_int_equal(st_count(f), 4);
    assert_memory_equal(st_find(f, decls[0].name)->data, x, sizeof x);
    assert_int_equal((uintptr_t)st_at(f, 0)->data % 8, 0); /* the mapping is page-aligned */
    assert_memory_equal(st_find(f, "a")->data, y, sizeof y);
    assert_memory_equal(st_find(f, "scalar")->data, &z, sizeof z);
    assert_true(json_equal(st_metadata_all(f), meta));
    st_free(&f);
    json_decref(meta);
    static const struct st_decl twice[] = {{"a", DT_F32, 1, {1}}, {"a", DT_F32, 1, {1}}},
                                reserved = {"__metadata__", DT_F32, 1, {1}},
                                not_utf8 = {"\xff", DT_F32, 1, {1}},
                                huge = {"h", DT_F32, 2, {INT64_MAX, 2}};
    assert_fails(st_writer_new(path, NULL, twice, 2, &w, &err), MIL_INPUT, "two tensors are named");
    assert_fails(st_writer_new(path, NULL, &reserved, 1, &w, &err), MIL_INPUT,
                 "cannot be the name");
    assert_fails(st_writer_new(path, NULL, &not_utf8, 1, &w, &err), MIL_INPUT, "not valid UTF-8");
    assert_fails(st_writer_new(path, NULL, &huge, 1, &w, &err), MIL_INPUT, "overflows");
    assert_fails(st_writer_new("/no/such/dir/f", NULL, decls, 1, &w, &err), MIL_ACCESS, "/no/such");
    assert_ok(st_writer_new(path, NULL, decls, 2, &w, &err));
    st_writer_free(&w); /* given up: what was there stays, nothing else does */
    assert_ok(st_open(path, &f, &err));
    st_free(&f);
    char **names;
    size_t n;
    assert_ok(dir_list(dir, &names, &n, &err));
    assert_int_equal(n, 1);
    dir_list_free(names, n);
}

/* Written by the safetensors Python package (tools/golden/record_io.py). */
static void a_file_of_the_reference_is_read(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct st_file *f;
    assert_ok(st_open(TEST_DATA "/reference.safetensors", &f, &err));
    assert_int_equal(st_count(f), 5);
    const float *x = st_find(f, "f32")->data;
    assert_true(st_find(f, "f32")->shape[0] == 2 && st_find(f, "f32")->shape[1] == 3);
    for (int i = 0; i < 6; i++) assert_true(x[i] == (float)i / 2);
    const bf16 *b = st_find(f, "bf16")->data;
    assert_true(bf16_to_f32(b[1]) == -1.5f && st_find(f, "bf16")->dtype == DT_BF16);
    assert_int_equal(st_find(f, "bool")->dtype, DT_BOOL);
    assert_int_equal(st_find(f, "empty")->shape[1], 4);
    assert_int_equal(st_find(f, "scalar")->ndim, 0);
    assert_string_equal(st_metadata(f, "format"), "pt");
    st_free(&f);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_sound_file_is_read),
        TEST(every_lie_of_a_header_is_refused),
        TEST(sizes_of_the_header_are_bounded),
        TEST(no_prefix_of_a_file_is_accepted),
        TEST(shards_are_one_checkpoint),
        TEST(an_index_may_not_disagree_or_lead_away),
        TEST(what_is_written_reads_back),
        TEST(a_file_of_the_reference_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
