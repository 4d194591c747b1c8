/* SPDX-License-Identifier: Apache-2.0 */
/* Two readers of what a user hands in: the bytes as a model's chat_template, and as a data file
 * that is rendered with every template and tokenised by single bytes. */
#include <string.h>

#include "fuzz.h"
#include "text/dataset.h"
#include "text/tokenizer_impl.h"

/* A byte-level vocabulary of the 256 bytes, an end and two special tokens. */
static struct tokenizer *byte_tokenizer(void) {
    static const char *const special[] = {"</s>", "<|im_start|>", "<|im_end|>"};
    struct tokenizer *t = tokenizer_new();
    REQUIRE(t);
    t->bpe.byte_symbols = true;
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        REQUIRE(vocab_put(&t->bpe.vocab, i, &byte, 1, PIECE_KEY, NULL) == MIL_OK);
    }
    REQUIRE(vocab_index(&t->bpe.vocab, NULL) == MIL_OK);
    for (int i = 0; i < 3; i++) {
        struct added_token token = {.id = 256 + i, .special = true};
        size_t n = strlen(special[i]);
        REQUIRE(vocab_put(&t->bpe.vocab, 256 + i, special[i], n, PIECE_SPECIAL, NULL) == MIL_OK);
        REQUIRE(added_put(&t->raw, token, special[i], n, NULL) == MIL_OK);
    }
    tokenizer_find_bytes(t);
    REQUIRE(decoder_add(&t->decoder, DECODE_BYTES, NULL, NULL, NULL, NULL) == MIL_OK);
    REQUIRE(tokenizer_finish(t, NULL) == MIL_OK);
    t->eos = 256;
    return t;
}

static void load(const struct tokenizer *t, const char *path, const char *name) {
    struct mil_error err = {0};
    struct dataset d;
    struct str out = {0};
    struct dataset_source source = {.path = path, .limit = -1};
    struct dataset_options o = {.max_length = 64};
    REQUIRE(template_find(name, &o.template_, &err) == MIL_OK);
    enum mil_status st = dataset_load(&source, 1, t, &o, &d, &err);
    check_error(st, &err);
    if (st != MIL_OK) return;
    for (int64_t i = 0; i < d.n; i++) {
        int64_t labels = 0;
        for (int64_t k = d.begin[i]; k < d.begin[i + 1]; k++) labels += d.labels[k];
        REQUIRE(labels > 0 && d.begin[i + 1] - d.begin[i] <= 64 && d.labels[d.begin[i]] == 0);
        REQUIRE(dataset_preview(&d, t, i, &out, &err) == MIL_OK);
    }
    str_release(&out);
    dataset_release(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct tokenizer *t;
    struct mil_error err = {0};
    const struct chat_template *found;
    struct str source = {0};
    char path[32];
    if (!t) t = byte_tokenizer(); /* kept for the life of the process */
    str_addn(&source, data, n);
    check_error(template_recognise(str_c(&source), &found, &err), &err);
    str_release(&source);
    int fd = bytes_as_file(data, n, path);
    for (const char *const *name = template_names(); *name; name++) load(t, path, *name);
    close(fd);
    return 0;
}
