/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizer files of all kinds: GGUF by its magic, JSON by its brace, SentencePiece otherwise. What
 * opens must encode and decode any text, with starts that never fall and text that is UTF-8. */
#include <string.h>

#include "fuzz.h"
#include "text/tokenizer_impl.h"

static const char text[] = "a b  ab\n<s>\xc3\xa9"
                           "e\xcc\x81 12 \xe4\xbd\xa0\xf0\x9f\x98\x80</s>  x";

static void use(const struct tokenizer *t) {
    struct mil_error err = {0};
    struct tokens k = {0};
    struct str out = {0};
    struct token_stream s = {.tokenizer = t};
    for (unsigned flags = 0; flags < 4; flags++) {
        enum mil_status st = tokenizer_encode(t, text, sizeof text - 1, flags, &k, &err);
        check_error(st, &err);
        if (st != MIL_OK) break;
        for (size_t i = 0; i < k.n; i++) {
            REQUIRE(k.starts[i] >= (i ? k.starts[i - 1] : 0) && k.starts[i] < (int64_t)sizeof text);
            REQUIRE(token_stream_push(&s, k.ids[i], &out, NULL) == MIL_OK);
        }
        REQUIRE(token_stream_finish(&s, &out, NULL) == MIL_OK);
        REQUIRE(tokenizer_decode(t, k.ids, k.n, flags & 1, &out, NULL) == MIL_OK);
        REQUIRE(utf8_valid_prefix(str_c(&out), out.len) == out.len);
    }
    tokenizer_id(t, "<s>");
    token_stream_release(&s);
    tokens_release(&k);
    str_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct mil_error err = {0};
    struct tokenizer *t = NULL;
    struct gguf_file *f = NULL;
    enum mil_status st;
    char path[32];
    int fd = bytes_as_file(data, n, path);
    if (n >= 4 && memcmp(data, "GGUF", 4) == 0) {
        st = gguf_open(path, &f, &err);
        if (st == MIL_OK) st = tokenizer_open_gguf(f, &t, &err);
    } else {
        t = tokenizer_new();
        REQUIRE(t);
        st = n && data[0] == '{' ? tokenizer_read_json(path, t, &err)
                                 : tokenizer_read_sentencepiece(path, t, &err);
        if (st == MIL_OK) st = tokenizer_finish(t, &err);
    }
    check_error(st, &err);
    if (st == MIL_OK) use(t);
    tokenizer_free(&t);
    gguf_free(&f);
    close(fd);
    return 0;
}
