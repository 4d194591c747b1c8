/* SPDX-License-Identifier: Apache-2.0 */
/* test_tokenizer.c - tokenizers against recorded outputs of Hugging Face tokenizers and
 * SentencePiece (tools/golden/record_tokenizers.py), the llama.cpp vectors, and properties:
 * offsets, round trips, streams equal to whole decodes.  Ids are integers: equality is exact
 * everywhere. */
#include "check.h"

#include <jansson.h>
#include <time.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer.h"

static struct mil_error err;

static json_t *read_data(const char *name) {
    char path[PATH_CAP];
    json_t *root = NULL;
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    assert_ok(json_read_file(path, &root, &err));
    return root;
}

static struct tokenizer *open_small(const char *name) {
    char path[PATH_CAP];
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    assert_ok(tokenizer_open_dir(path, &t, &err));
    return t;
}

static void print_ids(const char *what, const int32_t *ids, size_t n) {
    fprintf(stderr, "%s:", what);
    for (size_t i = 0; i < n; i++) fprintf(stderr, " %d", (int)ids[i]);
    fprintf(stderr, "\n");
}

static bool equal_ids(const json_t *want, const struct tokens *got) {
    bool same = json_array_size(want) == got->n;
    for (size_t i = 0; same && i < got->n; i++)
        same = json_integer_value(json_array_get(want, i)) == got->ids[i];
    if (same) return true;
    char *w = json_dumps(want, JSON_COMPACT);
    fprintf(stderr, "want: %s\n", w);
    mem_free(w);
    print_ids("got", got->ids, got->n);
    return false;
}

/* Starts never fall, lie in the text, and the token's own characters stand there. */
static void check_starts(const struct tokens *t, const char *text, size_t n) {
    for (size_t i = 0; i < t->n; i++) {
        assert_in_range(t->starts[i], 0, n);
        if (i) assert_true(t->starts[i] >= t->starts[i - 1]);
    }
    (void)text;
}

static void check_stream(const struct tokenizer *t, const struct tokens *tokens, const char *want) {
    struct token_stream s = {.tokenizer = t};
    struct str out = {0};
    for (size_t i = 0; i < tokens->n; i++) {
        if (tokenizer_is_special(t, tokens->ids[i])) continue;
        assert_ok(token_stream_push(&s, tokens->ids[i], &out, &err));
        assert_int_equal(utf8_valid_prefix(str_c(&out), out.len), out.len);
    }
    assert_ok(token_stream_finish(&s, &out, &err));
    assert_string_equal(str_c(&out), want);
    token_stream_release(&s);
    str_release(&out);
}

enum { ONLY_RAW = 1 };

static void check_golden(const struct tokenizer *t, const char *golden, unsigned how) {
    json_t *texts = read_data("texts.json"), *g = read_data(golden);
    struct tokens tokens = {0};
    struct str out = {0};
    int bad = 0;
    assert_true(json_array_size(texts) >= 300);
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const char *text = json_string_value(json_array_get(texts, i));
        size_t n = strlen(text);
        const json_t *ids = json_array_get(json_object_get(g, "ids"), i);
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        const json_t *raw = json_object_get(json_object_get(g, "raw"), key);
        assert_ok(tokenizer_encode(t, text, n, TOKENIZE_ADD_SPECIAL, &tokens, &err));
        bool same = equal_ids(raw ? raw : ids, &tokens);
        check_starts(&tokens, text, n);
        if (same && !(how & ONLY_RAW)) {
            unsigned flags = TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL;
            assert_ok(tokenizer_encode(t, text, n, flags, &tokens, &err));
            same = equal_ids(ids, &tokens);
            check_starts(&tokens, text, n);
            const json_t *decoded = json_object_get(json_object_get(g, "decoded"), key);
            const char *want = decoded ? json_string_value(decoded) : text;
            str_reset(&out);
            assert_ok(tokenizer_decode(t, tokens.ids, tokens.n, true, &out, &err));
            if (same) assert_string_equal(str_c(&out), want);
            if (same) check_stream(t, &tokens, want);
        }
        if (!same) fprintf(stderr, "%s: text %zu '%s'\n", golden, i, text), bad++;
    }
    assert_int_equal(bad, 0);
    tokens_release(&tokens);
    str_release(&out);
    json_decref(texts);
    json_decref(g);
}

static void test_small_bytes(void **state) {
    (void)state;
    struct tokenizer *t = open_small("small-bytes");
    assert_string_equal(tokenizer_kind(t), "byte-level BPE");
    assert_int_equal(tokenizer_bos(t), tokenizer_id(t, "<s>"));
    assert_int_equal(tokenizer_eos(t), tokenizer_id(t, "</s>"));
    assert_true(tokenizer_is_special(t, tokenizer_id(t, "<|im_end|>")));
    assert_false(tokenizer_is_special(t, tokenizer_id(t, "WORD")));
    assert_int_equal(tokenizer_id(t, "no such piece"), -1);
    check_golden(t, "small-bytes.json", 0);
    tokenizer_free(&t);
}

static void test_small_sentencepiece(void **state) {
    (void)state;
    struct tokenizer *t = open_small("small-sp");
    assert_string_equal(tokenizer_kind(t), "SentencePiece BPE");
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    check_golden(t, "small-sp.json", 0);
    tokenizer_free(&t);
}

static void test_small_metaspace(void **state) {
    (void)state;
    struct tokenizer *t = open_small("small-meta");
    check_golden(t, "small-meta.json", 0);
    tokenizer_free(&t);
}

static void test_small_model(void **state) {
    (void)state;
    struct tokenizer *t = open_small("small-model");
    check_golden(t, "small-model.json", ONLY_RAW);
    tokenizer_free(&t);
}

/* --- files of ../shared/data --- */

static struct tokenizer *open_shared(const char *name) {
    char path[PATH_CAP];
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/tokenizers/%s", test_data_dir(), name);
    double start = clock_seconds();
    if (str_ends(name, ".gguf")) {
        struct gguf_file *f = NULL;
        assert_ok(gguf_open(path, &f, &err));
        assert_ok(tokenizer_open_gguf(f, &t, &err));
        gguf_free(&f);
    } else {
        assert_ok(tokenizer_open_dir(path, &t, &err));
    }
    fprintf(stderr, "%s: opened in %.3f s\n", name, clock_seconds() - start);
    return t;
}

static void golden_shared(const char *name, const char *golden) {
    struct tokenizer *t = open_shared(name);
    check_golden(t, golden, 0);
    tokenizer_free(&t);
}

static void test_llama2(void **state) {
    (void)state;
    skip_without_data();
    golden_shared("llama2", "llama2.json");
}

static void test_llama3(void **state) {
    (void)state;
    skip_without_data();
    golden_shared("llama3", "llama3.json");
}

static void test_gpt2(void **state) {
    (void)state;
    skip_without_data();
    golden_shared("gguf-vocab/ggml-vocab-gpt-2.gguf", "gpt2.json");
}

/* llama2/tokenizer.model alone in a directory, against SentencePiece; and the GGUF form of the same
 * vocabulary gives the same. */
static void test_llama2_model(void **state) {
    (void)state;
    skip_without_data();
    char from[PATH_CAP], to[PATH_CAP];
    struct tokenizer *t = NULL;
    const char *dir = test_tmp_dir();
    snprintf(from, sizeof from, "%s/tokenizers/llama2/tokenizer.model", test_data_dir());
    snprintf(to, sizeof to, "%s/tokenizer.model", dir);
    assert_ok(file_copy(from, to, &err));
    assert_ok(tokenizer_open_dir(dir, &t, &err));
    check_golden(t, "llama2-model.json", ONLY_RAW);
    tokenizer_free(&t);
    t = open_shared("gguf-vocab/ggml-vocab-llama-spm.gguf");
    check_golden(t, "llama2-model.json", ONLY_RAW);
    tokenizer_free(&t);
    assert_ok(dir_remove(dir, &err));
}

static void test_smollm2(void **state) {
    (void)state;
    skip_without_smollm2();
    if (path_is_dir(test_smollm2_path())) skip(); /* goldens are of the GGUF file's tokenizer */
    struct gguf_file *f = NULL;
    struct tokenizer *t = NULL;
    assert_ok(gguf_open(test_smollm2_path(), &f, &err));
    assert_ok(tokenizer_open_gguf(f, &t, &err));
    gguf_free(&f);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_non_null(tokenizer_chat_template(t));
    check_golden(t, "smollm2.json", 0);
    tokenizer_free(&t);
}

/* One line of the .out file. */
static void check_vector(const struct tokenizer *t, const char *text, size_t n, const char *line) {
    struct tokens tokens = {0};
    assert_ok(tokenizer_encode(t, text, n, 0, &tokens, &err));
    size_t i = 0;
    char *end;
    for (const char *p = line; *p;) {
        long id = strtol(p, &end, 10);
        if (end == p) break;
        if (i >= tokens.n || tokens.ids[i] != id) {
            print_ids("got", tokens.ids, tokens.n);
            fail_msg("'%.*s': token %zu is not %ld (%s)", (int)n, text, i, id, line);
        }
        i++;
        p = end;
    }
    assert_int_equal(i, tokens.n);
    tokens_release(&tokens);
}

static void check_vectors(const char *tokenizer, const char *vectors) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    struct tokenizer *t = open_shared(tokenizer);
    struct str texts = {0}, ids = {0};
    char path[PATH_CAP];
    snprintf(path, sizeof path, "%s/tokenizers/gguf-vocab/%s.inp", test_data_dir(), vectors);
    assert_ok(file_read(path, 1 << 20, &texts, &err));
    snprintf(path, sizeof path, "%s/tokenizers/gguf-vocab/%s.out", test_data_dir(), vectors);
    assert_ok(file_read(path, 1 << 20, &ids, &err));
    const char *text = str_c(&texts);
    char *line = ids.data;
    int n = 0;
    while (text) {
        const char *next = strstr(text, separator);
        char *newline = strchr(line, '\n');
        if (!next) break; /* the file ends with a separator */
        assert_non_null(newline);
        *newline = 0;
        check_vector(t, text, (size_t)(next - text), line);
        n++;
        line = newline + 1;
        text = next + sizeof separator - 1;
    }
    fprintf(stderr, "%s: %d vectors\n", vectors, n);
    assert_true(n > 40);
    assert_int_equal(*line, 0);
    str_release(&texts);
    str_release(&ids);
    tokenizer_free(&t);
}

static void test_vectors(void **state) {
    (void)state;
    skip_without_data();
    check_vectors("gguf-vocab/ggml-vocab-gpt-2.gguf", "ggml-vocab-gpt-2.gguf");
    check_vectors("gguf-vocab/ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-spm.gguf");
    check_vectors("llama3", "ggml-vocab-llama-bpe.gguf");
}

/* --- properties --- */

/* Byte-level: without normalisation a token's bytes are the text from its start to the next one's.
 */
static void test_offsets_are_exact(void **state) {
    (void)state;
    skip_without_data();
    struct tokenizer *t = open_shared("gguf-vocab/ggml-vocab-gpt-2.gguf");
    json_t *texts = read_data("texts.json");
    struct tokens tokens = {0};
    for (size_t k = 0; k < json_array_size(texts); k++) {
        const char *text = json_string_value(json_array_get(texts, k));
        size_t n = strlen(text);
        assert_ok(tokenizer_encode(t, text, n, TOKENIZE_PARSE_SPECIAL, &tokens, &err));
        for (size_t i = 0; i < tokens.n; i++) {
            size_t begin = (size_t)tokens.starts[i];
            size_t end = i + 1 < tokens.n ? (size_t)tokens.starts[i + 1] : n;
            struct str alone = {0};
            assert_ok(tokenizer_decode(t, tokens.ids + i, 1, false, &alone, &err));
            if (utf8_valid_prefix(text + begin, end - begin) == end - begin) {
                assert_int_equal(alone.len, end - begin);
                assert_memory_equal(str_c(&alone), text + begin, alone.len);
            }
            str_release(&alone);
        }
        if (tokens.n) assert_int_equal(tokens.starts[0], 0);
    }
    tokens_release(&tokens);
    json_decref(texts);
    tokenizer_free(&t);
}

static void test_offsets_of_prefix(void **state) {
    (void)state;
    struct tokenizer *t = open_small("small-sp");
    struct tokens k = {0};
    const char *text = "a</s>b c";
    unsigned flags = TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL;
    assert_ok(tokenizer_encode(t, text, strlen(text), flags, &k, &err));
    /* <s> 0, "▁a" 0, </s> 1, "▁b" 5, then " c" at 6 */
    assert_int_equal(k.starts[0], 0);
    assert_int_equal(k.starts[1], 0);
    size_t i = 1;
    while (i < k.n && k.ids[i] != 2) i++;
    assert_true(i + 1 < k.n);
    assert_int_equal(k.starts[i], 1);
    assert_int_equal(k.starts[i + 1], 5);
    assert_true(k.starts[k.n - 1] >= 6);
    tokens_release(&k);
    tokenizer_free(&t);
}

static void test_special_only_where_allowed(void **state) {
    (void)state;
    struct tokenizer *t = open_small("small-bytes");
    struct tokens k = {0};
    const char *text = "<|im_end|>x<|im_end|>";
    int32_t end = tokenizer_id(t, "<|im_end|>");
    struct span where = {11, 21};
    assert_ok(tokenizer_encode_within(t, text, 21, TOKENIZE_PARSE_SPECIAL, &where, 1, &k, &err));
    int count = 0;
    for (size_t i = 0; i < k.n; i++) count += k.ids[i] == end;
    assert_int_equal(count, 1);
    assert_int_equal(k.ids[k.n - 1], end);
    where = (struct span){12, 21}; /* one byte short: not wholly inside */
    assert_ok(tokenizer_encode_within(t, text, 21, TOKENIZE_PARSE_SPECIAL, &where, 1, &k, &err));
    for (size_t i = 0; i < k.n; i++) assert_int_not_equal(k.ids[i], end);
    tokens_release(&k);
    tokenizer_free(&t);
}

static void test_bad_text_and_ids(void **state) {
    (void)state;
    struct tokenizer *t = open_small("small-bytes");
    struct tokens k = {0};
    struct str out = {0};
    assert_fails(tokenizer_encode(t, "ab\xff", 3, 0, &k, &err), MIL_INPUT, "byte 2");
    assert_int_equal(err.offset, 2);
    assert_fails(tokenizer_encode(t, "\xed\xa0\x80", 3, 0, &k, &err), MIL_INPUT, "byte 0");
    int32_t bad[] = {0, -1}, big[] = {1 << 20};
    assert_fails(tokenizer_decode(t, bad, 2, false, &out, &err), MIL_INPUT, "-1");
    assert_fails(tokenizer_decode(t, big, 1, false, &out, &err), MIL_INPUT,
                 "not in the vocabulary");
    assert_ok(tokenizer_encode(t, "a\0b", 3, 0, &k, &err));
    assert_ok(tokenizer_decode(t, k.ids, k.n, false, &out, &err));
    assert_int_equal(out.len, 3);
    assert_memory_equal(out.data, "a\0b", 3);
    tokens_release(&k);
    str_release(&out);
    tokenizer_free(&t);
}

/* A megabyte of one character must not take quadratic time: with n^2/2 list steps it would need minutes of the processor,
 * with n log n well under a second; 20 s is far from both, and other work on the machine does not count. */
static void test_long_runs(void **state) {
    (void)state;
    static const char *const names[] = {"small-bytes", "small-sp", "small-model"};
    size_t n = 1 << 20;
    char *text = mem_alloc(MEM_OTHER, n, 1);
    assert_non_null(text);
    for (int i = 0; i < 3; i++) {
        struct tokenizer *t = open_small(names[i]);
        struct tokens k = {0};
        for (int c = 0; c < 2; c++) {
            memset(text, c ? 'a' : ' ', n);
            clock_t start = clock();
            assert_ok(tokenizer_encode(t, text, n, 0, &k, &err));
            assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
            assert_true(k.n > 0);
        }
        tokens_release(&k);
        tokenizer_free(&t);
    }
    mem_free(text);
}

struct many {
    const struct tokenizer *t;
    const char *text;
    size_t n;
    const struct tokens *want;
    bool ok[64];
};

static void encode_again(void *ctx, int64_t begin, int64_t end) {
    struct many *m = ctx;
    for (int64_t i = begin; i < end; i++) {
        struct tokens k = {0};
        m->ok[i] = tokenizer_encode(m->t, m->text, m->n, 3, &k, NULL) == MIL_OK &&
                   k.n == m->want->n && memcmp(k.ids, m->want->ids, k.n * sizeof *k.ids) == 0;
        tokens_release(&k);
    }
}

static void test_shared_by_threads(void **state) {
    (void)state;
    struct tokenizer *t = open_small("small-bytes");
    struct tokens want = {0};
    const char *text = "the answer <|im_end|> cafe\u0301 WORD 42   x\n\n\u4f60";
    assert_ok(tokenizer_encode(t, text, strlen(text), 3, &want, &err));
    struct many m = {.t = t, .text = text, .n = strlen(text), .want = &want};
    threads_set(4);
    parallel_for(64, 1, encode_again, &m);
    threads_set(0);
    for (int i = 0; i < 64; i++) assert_true(m.ok[i]);
    tokens_release(&want);
    tokenizer_free(&t);
}

/* Failing allocations anywhere give MIL_NOMEM (or are survived), never a crash or a leak. */
static void test_out_of_memory(void **state) {
    (void)state;
    char path[PATH_CAP];
    snprintf(path, sizeof path, "%s/small-sp", TEST_DATA);
    enum mil_status st = MIL_NOMEM;
    for (long n = 0; n < 4000 && st != MIL_OK; n += n < 200 ? 1 : 97) {
        struct tokenizer *t = NULL;
        mem_fail_after(n);
        st = tokenizer_open_dir(path, &t, &err);
        mem_fail_after(-1);
        if (st != MIL_OK) assert_int_equal(st, MIL_NOMEM);
        tokenizer_free(&t);
    }
    struct tokenizer *t = open_small("small-sp");
    st = MIL_NOMEM;
    for (long n = 0; n < 200 && st != MIL_OK; n++) {
        struct tokens k = {0};
        mem_fail_after(n);
        st = tokenizer_encode(t, "some text <s> \u4f60", 17, 3, &k, &err);
        mem_fail_after(-1);
        if (st != MIL_OK) assert_int_equal(st, MIL_NOMEM);
        tokens_release(&k);
    }
    assert_int_equal(st, MIL_OK);
    tokenizer_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_bytes),
        cmocka_unit_test(test_small_sentencepiece),
        cmocka_unit_test(test_small_metaspace),
        cmocka_unit_test(test_small_model),
        cmocka_unit_test(test_llama2),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_llama2_model),
        cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_offsets_are_exact),
        cmocka_unit_test(test_offsets_of_prefix),
        cmocka_unit_test(test_special_only_where_allowed),
        cmocka_unit_test(test_bad_text_and_ids),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_shared_by_threads),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
