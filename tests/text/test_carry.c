/* SPDX-License-Identifier: Apache-2.0 */
/* test_carry.c - a GGUF file's tokenizer, written as tokenizer.json and read back, gives the same ids. */
#include "check.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/records.h"
#include "text/tokenizer.h"
#include "text/tokenizer_carry.h"

static const char *const texts[] = {
    "",
    " ",
    "Hello, world!",
    "  two  spaces\tand\n\nnew lines \r\n ",
    "12345 67,890.12 3rd",
    "It's what we'll've done; DON'T.",
    ("na\xc3\xafve caf\xc3\xa9 \xe2\x80\x94 \xe6\xbc\xa2\xe5\xad\x97 \xd0\x9f\xd1\x80\xd0\xb8 "
     "\xf0\x9f\x98\x80\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd"),
    "\x01\x02\x7f control",
    "<|im_start|>user\nhi<|im_end|> <s> </s> <unk> <|endoftext|>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static void compare(const struct tokenizer *a, const struct tokenizer *b, const char *text,
                    size_t n) {
    struct mil_error err = {0};
    struct tokens ta = {0}, tb = {0};
    for (unsigned flags = 0; flags < 4; flags++) {
        assert_ok(tokenizer_encode(a, text, n, flags, &ta, &err));
        assert_ok(tokenizer_encode(b, text, n, flags, &tb, &err));
        if (ta.n != tb.n)
            fail_msg("%zu ids, carried over %zu: '%s' flags %u", ta.n, tb.n, text, flags);
        if (ta.n) assert_memory_equal(ta.ids, tb.ids, ta.n * sizeof *ta.ids);
    }
    struct str da = {0}, db = {0};
    assert_ok(tokenizer_decode(a, ta.ids, ta.n, false, &da, &err));
    assert_ok(tokenizer_decode(b, tb.ids, tb.n, false, &db, &err));
    assert_string_equal(str_c(&da), str_c(&db));
    str_release(&da);
    str_release(&db);
    tokens_release(&ta);
    tokens_release(&tb);
}

static void carried(const char *path) {
    struct mil_error err = {0};
    struct gguf_file *f = NULL;
    struct tokenizer *a = NULL, *b = NULL;
    const char *dir = test_tmp_dir();
    assert_ok(gguf_open(path, &f, &err));
    assert_ok(tokenizer_open_gguf(f, &a, &err));
    assert_ok(tokenizer_carry_gguf(f, dir, &err));
    assert_ok(tokenizer_open_dir(dir, &b, &err));
    assert_int_equal(tokenizer_vocab_size(a), tokenizer_vocab_size(b));
    assert_int_equal(tokenizer_bos(a), tokenizer_bos(b));
    assert_int_equal(tokenizer_eos(a), tokenizer_eos(b));
    const char *chat = tokenizer_chat_template(a);
    if (chat) assert_string_equal(chat, tokenizer_chat_template(b));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        compare(a, b, texts[i], strlen(texts[i]));
    tokenizer_free(&a);
    tokenizer_free(&b);
    gguf_free(&f);
    assert_ok(dir_remove(dir, &err));
}

static void smollm2(void **state) {
    (void)state;
    skip_without_smollm2();
    if (path_is_dir(test_smollm2_path())) skip(); /* a directory: nothing to carry over */
    carried(test_smollm2_path());
}

static void vocabulary_files(void **state) {
    (void)state;
    static const char *const names[] = {"gpt-2", "llama-spm"};
    skip_without_data();
    for (int i = 0; i < 2; i++) {
        char path[PATH_CAP];
        snprintf(path, sizeof path, "%s/tokenizers/gguf-vocab/ggml-vocab-%s.gguf", test_data_dir(),
                 names[i]);
        carried(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(smollm2),
                                       cmocka_unit_test(vocabulary_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
