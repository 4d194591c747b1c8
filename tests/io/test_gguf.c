/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF: every rule broken once, a file of the gguf Python package, the writer, real vocabularies.
 */
#define FILE_NAME "m.gguf"
#include "hostile.h"

#include "core/dtype.h"
#include "io/gguf.h"

static void add_text(struct str *s, const char *text) {
    put_le(s, strlen(text), 8);
    str_add(s, text);
}

static void add_head(struct str *s, uint32_t version, uint64_t n_tensors, uint64_t n_kvs) {
    str_add(s, "GGUF");
    put_le(s, version, 4);
    put_le(s, n_tensors, 8);
    put_le(s, n_kvs, 8);
}

static void add_tensor(struct str *s, const char *name, uint32_t type, uint64_t ne0, uint64_t ne1,
                       uint64_t offset) {
    add_text(s, name);
    put_le(s, 2, 4);
    put_le(s, ne0, 8);
    put_le(s, ne1, 8);
    put_le(s, type, 4);
    put_le(s, offset, 8);
}

/* Zeros up to a multiple of 32, then n bytes. */
static void add_data(struct str *s, size_t n) {
    while (s->len % 32) str_addc(s, 0);
    for (size_t i = 0; i < n; i++) str_addc(s, (char)i);
}

static void expect(struct str *s, enum mil_status status, const char *part, int64_t offset) {
    struct mil_error err;
    struct gguf_file *f;
    flush_to(path, s);
    assert_fails(gguf_open(path, &f, &err), status, part);
    assert_null(f);
    assert_non_null(strstr(err.message, "m.gguf: "));
    if (offset != -2 && err.offset != offset)
        fail_msg("%s: offset %d, want %d", err.message, (int)err.offset, (int)offset);
}

static void heads_that_lie_are_refused(void **state) {
    (void)state;
    static const struct {
        uint32_t version;
        uint64_t n_tensors, n_kvs;
        enum mil_status status;
        const char *part;
        int64_t offset;
    } table[] = {
        {1, 0, 0, MIL_UNSUPPORTED, "GGUF version 1 is not supported", 4},
        {4, 0, 0, MIL_UNSUPPORTED, "GGUF version 4 is not", 4},
        {0x03000000, 0, 0, MIL_UNSUPPORTED, "version 3 in big-endian order", 4},
        {3, 1, 0, MIL_INPUT, "1 tensors are claimed", 8},
        {3, UINT64_MAX, 0, MIL_INPUT, "tensors are claimed", 8},
        {3, 0, 1, MIL_INPUT, "1 key-value pairs are claimed", 16},
        {3, 0, UINT64_MAX / 2, MIL_INPUT, "key-value pairs are claimed", 16},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct str s = {0};
        add_head(&s, table[i].version, table[i].n_tensors, table[i].n_kvs);
        expect(&s, table[i].status, table[i].part, table[i].offset);
    }
    struct str s = {0};
    expect(&s, MIL_INPUT, "not a GGUF file", 0);
    str_add(&s, "GGML1234567890123456789");
    expect(&s, MIL_INPUT, "not a GGUF file", 0);
}

/* One key-value pair: key, type, raw value bytes. */
static void one_kv(struct str *s, const char *key, size_t key_n, uint32_t type, const char *value,
                   size_t n) {
    add_head(s, 3, 0, 1);
    put_le(s, key_n, 8);
    str_addn(s, key, key_n);
    put_le(s, type, 4);
    str_addn(s, value, n);
    str_addn(s, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16); /* so that counts look possible */
}

static void values_that_lie_are_refused(void **state) {
    (void)state;
#define V(bytes) bytes, sizeof bytes - 1
    static const struct {
        const char *key;
        size_t key_n;
        uint32_t type;
        const char *value;
        size_t n;
        enum mil_status status;
        const char *part;
        int64_t offset;
    } table[] = {
        {V("k"), 13, V("\0\0\0\0"), MIL_INPUT, "value type 13 of key 'k'", 33},
        {V("k"), GGUF_BOOL, V("\2"), MIL_INPUT, "a bool must be 0 or 1, is 2", 37},
        {V("k"), GGUF_STRING, V("\xff\0\0\0\0\0\0\0"), MIL_INPUT, "a string needs 255 bytes", 45},
        {V("k"), GGUF_STRING, V("\xff\xff\xff\xff\xff\xff\xff\xff"), MIL_INPUT, "a string needs",
         45},
        {V("k"), GGUF_ARRAY, V("\x09\0\0\0\1\0\0\0\0\0\0\0"), MIL_UNSUPPORTED,
         "key 'k' holds an array of arrays", 37},
        {V("k"), GGUF_ARRAY, V("\x0e\0\0\0\1\0\0\0\0\0\0\0"), MIL_INPUT, "value type 14", -2},
        {V("k"), GGUF_ARRAY, V("\4\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), MIL_INPUT,
         "an array needs", 49},
        {V("k"), GGUF_ARRAY, V("\4\0\0\0\5\0\0\0\0\0\0\0"), MIL_INPUT, "an array needs", 49},
        {V("k"), GGUF_ARRAY, V("\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\x0f"), MIL_INPUT,
         "an array of strings needs", 49},
        {V("k"), GGUF_ARRAY, V("\7\0\0\0\2\0\0\0\0\0\0\0\1\3"), MIL_INPUT, "a bool must be", 50},
        {V("k\0l"), GGUF_U8, V("\1"), MIL_INPUT, "a key holds a NUL", 24},
        {V("k\xff"), GGUF_U8, V("\1"), MIL_INPUT, "a key is not valid UTF-8", 24},
        {V(""), GGUF_U8, V("\1"), MIL_INPUT, "a key is 0 bytes long", 24},
        {V("general.alignment"), GGUF_U32, V("\0\0\0\0"), MIL_INPUT, "general.alignment is 0", -2},
        {V("general.alignment"), GGUF_U32, V("\3\0\0\0"), MIL_INPUT, "must be a power of two", -2},
        {V("general.alignment"), GGUF_U32, V("\0\0\0\x80"), MIL_INPUT, "must be a power of two",
         -2},
        {V("general.alignment"), GGUF_U64, V("\x20\0\0\0\0\0\0\0"), MIL_INPUT, "32-bit", -2},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct str s = {0};
        one_kv(&s, table[i].key, table[i].key_n, table[i].type, table[i].value, table[i].n);
        expect(&s, table[i].status, table[i].part, table[i].offset);
    }
    struct str s = {0};
    add_head(&s, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        add_text(&s, "twice");
        put_le(&s, GGUF_U8, 4);
        put_le(&s, 1, 1);
    }
    expect(&s, MIL_INPUT, "key 'twice' occurs twice", -2);
    add_head(&s, 3, 0, 1);
    put_le(&s, UINT64_MAX, 8);
    str_add(&s, "12345678901234567890");
    expect(&s, MIL_INPUT, "a key needs", 32);
}

static void tensors_that_lie_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t type;
        uint64_t ne0, ne1, offset;
        enum mil_status status;
        const char *part;
    } table[] = {
        {"t", 0, 4, 2, 0, MIL_OK, ""},
        {"t", 0, 4, 3, 0, MIL_INPUT, "leave the file"},
        {"t", 0, 4, 1, 32, MIL_INPUT, "leave the file"},
        {"t", 0, 4, 1, 16, MIL_INPUT, "no multiple of the alignment 32"},
        {"t", 0, 4, 1, UINT64_MAX - 31, MIL_INPUT, "leave the file"},
        {"t", 0, 0, 1, 0, MIL_INPUT, "a dimension is 0"},
        {"t", 0, UINT64_MAX, 1, 0, MIL_INPUT, "a dimension is 0, or their product overflows"},
        {"t", 0, 1ull << 40, 1ull << 40, 0, MIL_INPUT, "product overflows"},
        {"t", 0, 1ull << 31, 1ull << 31, 0, MIL_INPUT, "no whole number of blocks"},
        {"t", 2, 33, 1, 0, MIL_INPUT, "no whole number of blocks"},
        {"t", 2, 16, 2, 0, MIL_INPUT, "no whole number of blocks"},
        {"t", 2, 32, 1, 0, MIL_OK, ""},
        {"t", 20, 32, 1, 0, MIL_UNSUPPORTED, "tensor 't' has type IQ4_NL (number 20)"},
        {"t", 999, 32, 1, 0, MIL_UNSUPPORTED, "has type unknown (number 999)"},
        {"", 0, 1, 1, 0, MIL_INPUT, "a tensor's name is 0 bytes"},
    };
    struct mil_error err;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct str s = {0};
        struct gguf_file *f;
        add_head(&s, 3, 1, 0);
        add_tensor(&s, table[i].name, table[i].type, table[i].ne0, table[i].ne1, table[i].offset);
        add_data(&s, 32);
        flush_to(path, &s);
        assert_fails(gguf_open(path, &f, &err), table[i].status, table[i].part);
        gguf_free(&f);
    }
    struct str s = {0};
    add_head(&s, 3, 2, 0);
    add_tensor(&s, "a", 0, 16, 1, 0);
    add_tensor(&s, "b", 0, 8, 1, 32);
    add_data(&s, 96);
    expect(&s, MIL_INPUT, "tensors 'a' and 'b' overlap", -2);
    add_head(&s, 3, 2, 0);
    add_tensor(&s, "a", 0, 8, 1, 0);
    add_tensor(&s, "a", 0, 8, 1, 32);
    add_data(&s, 64);
    expect(&s, MIL_INPUT, "tensor 'a' occurs twice", -2);
    for (uint32_t ndim = 0; ndim <= 5; ndim += 5) {
        add_head(&s, 3, 1, 0);
        add_text(&s, "a");
        put_le(&s, ndim, 4);
        for (int i = 0; i < 16; i++) put_le(&s, 1, 8);
        expect(&s, MIL_INPUT, "must have 1 to 4 dimensions", -2);
    }
}

/* The recorded file (tools/golden/record_io.py) has every value type, and 64 as its alignment. */
static void a_file_of_the_reference_is_read(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct gguf_file *f;
    assert_ok(gguf_open(TEST_DATA "/reference.gguf", &f, &err));
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"t.u8", 200},           {"t.i8", -100},           {"t.u16", 60000},
                {"t.i16", -30000},       {"t.u32", 4000000000},    {"t.i32", -2000000000},
                {"t.i64", -(1ll << 62)}, {"general.alignment", 64}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t v = 0;
        double d = 0;
        assert_true(gguf_get_i64(f, ints[i].key, &v) && v == ints[i].value);
        assert_true(gguf_get_f64(f, ints[i].key, &d) && d == (double)ints[i].value);
    }
    int64_t v;
    double d;
    bool b = false;
    struct gguf_str s;
    assert_false(gguf_get_i64(f, "t.u64", &v)); /* 2^63 */
    assert_true(gguf_get_f64(f, "t.u64", &d) && d == 0x1p63);
    assert_true(gguf_get_f64(f, "t.f32", &d) && d == 1.5);
    assert_true(gguf_get_f64(f, "t.f64", &d) && d == 0.1);
    assert_false(gguf_get_i64(f, "t.f32", &v) || gguf_get_i64(f, "t.bool", &v));
    assert_false(gguf_get_i64(f, "t.ints", &v) || gguf_get_i64(f, "absent", &v));
    assert_true(gguf_get_bool(f, "t.bool", &b) && b);
    assert_true(gguf_get_str(f, "t.str", &s) && s.n == 7 &&
                memcmp(s.data,
                       "gr\xc3\xbc\xc3\x9f"
                       "e",
                       7) == 0);
    assert_false(gguf_get_str(f, "t.strings", &s) || gguf_get_bool(f, "t.u8", &b));
    const struct gguf_kv *kv = gguf_find(f, "t.strings");
    assert_true(kv->n == 3 && kv->strings[1].n == 0 && kv->strings[2].data[2] == 'c');
    kv = gguf_find(f, "t.ints");
    assert_true(kv->n == 3 && gguf_value_i64(kv, 1) == -2);
    assert_true(gguf_value_f64(gguf_find(f, "t.floats"), 1) == -0.25);
    assert_int_equal(gguf_version(f), 3);
    for (size_t i = 0; i < gguf_kv_count(f); i++) assert_true(gguf_kv_at(f, i)->key.n > 0);
    const struct gguf_tensor *t = gguf_find_tensor(f, "plain");
    assert_true(t && t->dtype == DT_F32 && t->ndim == 2 && t->ne[0] == 3 && t->ne[1] == 2);
    for (int i = 0; i < 6; i++) assert_true(((const float *)t->data)[i] == (float)i);
    t = gguf_find_tensor(f, "blocks");
    assert_true(t && t->dtype == DT_Q8_0 && t->bytes == 4 * 64 / 32 * 34 && t->ne[3] == 1);
    assert_int_equal(gguf_tensor_count(f), 2);
    assert_string_equal("blocks", gguf_tensor_at(f, 1)->name.n == 6 ? "blocks" : "?");
    assert_null(gguf_find_tensor(f, "block"));
    gguf_free(&f);
}

static void no_prefix_of_a_file_is_accepted(void **state) {
    (void)state;
    struct mil_error err;
    struct str whole = {0};
    struct gguf_file *f;
    assert_int_equal(file_read(TEST_DATA "/reference.gguf", 1 << 20, &whole, &err), MIL_OK);
    size_t padding = 48; /* behind the last tensor, 272 bytes, to the alignment of 64 */
    for (size_t n = 0; n + padding < whole.len; n++) {
        put_bytes(path, whole.data, n);
        assert_int_equal(gguf_open(path, &f, &err), MIL_INPUT);
    }
    whole.data[4] = 2; /* version 2 has the same layout */
    put_bytes(path, whole.data, whole.len);
    assert_int_equal(gguf_open(path, &f, &err), MIL_OK);
    gguf_free(&f);
    str_release(&whole);
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct gguf_writer *w;
    struct gguf_file *f;
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    static const bf16 y[3] = {1, 2, 3};
    static const int64_t ne[2] = {3, 2};
    assert_ok(gguf_writer_new(path, &w, &err));
    gguf_put_str(w, "s", "text");
    gguf_put_u32(w, "u", 7);
    gguf_put_f32(w, "f", -0.5f);
    gguf_put_bool(w, "b", true);
    gguf_put_tensor(w, "y", DT_BF16, 1, ne, y);
    gguf_put_tensor(w, "x", DT_F32, 2, ne, x);
    assert_ok(gguf_writer_commit(&w, &err));
    assert_null(w);
    assert_ok(gguf_open(path, &f, &err));
    double d = 0;
    int64_t u = 0;
    bool b = false;
    struct gguf_str s = {0};
    assert_true(gguf_get_f64(f, "f", &d) && d == -0.5 && gguf_get_i64(f, "u", &u) && u == 7);
    assert_true(gguf_get_bool(f, "b", &b) && b && gguf_get_str(f, "s", &s) && s.n == 4);
    assert_memory_equal(gguf_find_tensor(f, "x")->data, x, sizeof x);
    assert_memory_equal(gguf_find_tensor(f, "y")->data, y, sizeof y);
    assert_int_equal((uintptr_t)gguf_find_tensor(f, "x")->data % 32, 0);
    gguf_free(&f);
    assert_ok(gguf_writer_new("/no/such/dir/f", &w, &err));
    assert_fails(gguf_writer_commit(&w, &err), MIL_ACCESS, "/no/such/dir/f");
    assert_null(w);
}

static void real_vocabularies_are_read(void **state) {
    (void)state;
    skip_without_data();
    static const struct {
        const char *name;
        uint64_t tokens;
    } table[] = {{"tokenizers/gguf-vocab/ggml-vocab-gpt-2.gguf", 50257},
                 {"tokenizers/gguf-vocab/ggml-vocab-llama-spm.gguf", 32000}};
    struct mil_error err = {0};
    for (size_t i = 0; i < 2; i++) {
        char file[PATH_CAP];
        struct gguf_file *f;
        assert_ok(path_join(file, test_data_dir(), table[i].name, &err));
        if (!path_exists(file)) continue;
        assert_ok(gguf_open(file, &f, &err));
        assert_int_equal(gguf_find(f, "tokenizer.ggml.tokens")->n, table[i].tokens);
        gguf_free(&f);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(heads_that_lie_are_refused),      TEST(values_that_lie_are_refused),
        TEST(tensors_that_lie_are_refused),    TEST(a_file_of_the_reference_is_read),
        TEST(no_prefix_of_a_file_is_accepted), TEST(what_is_written_reads_back),
        TEST(real_vocabularies_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
