/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_tokenize.c - `tokenize`: text to ids, ids to text, and files of test vectors.
 *
 * The text is taken byte for byte, the newline at the end of a file included. */
#include <string.h>

#include "verbs.h"

struct tokenize_args {
    const char *model, *text, *file;
    bool no_special, literal, decode, vectors;
};

#define TEXT_LIMIT ((size_t)1 << 30)
#define SEPARATOR "__ggml_vocab_test__"

static void print_ids(const struct mil_ids *ids) {
    for (size_t i = 0; i < ids->n; i++) printf(i ? " %d" : "%d", ids->ids[i]);
    putchar('\n');
}

static enum mil_status encode(const mil_tokenizer *t, const struct tokenize_args *args,
                              const char *text, size_t n, struct mil_error *err) {
    struct mil_ids ids = {0};
    unsigned flags =
        (args->no_special ? 0 : MIL_ADD_SPECIAL) | (args->literal ? 0 : MIL_PARSE_SPECIAL);
    enum mil_status st = mil_encode(t, text, n, flags, &ids, err);
    if (st == MIL_OK) print_ids(&ids);
    mil_ids_release(&ids);
    return st;
}

/* Length of the text that ends where a separator line (or the input) begins; *next: after it. */
static size_t one_vector(const char *s, size_t n, size_t *next) {
    size_t k = strlen(SEPARATOR);
    for (size_t i = 0; i + k <= n; i++) {
        bool line = (i == 0 || s[i - 1] == '\n') && (i + k == n || s[i + k] == '\n');
        if (!line || memcmp(s + i, SEPARATOR, k) != 0) continue;
        *next = i + k < n ? i + k + 1 : n;
        return i ? i - 1 : 0;
    }
    *next = n;
    return n && s[n - 1] == '\n' ? n - 1 : n;
}

static enum mil_status encode_vectors(const mil_tokenizer *t, const struct tokenize_args *args,
                                      const struct mil_text *text, struct mil_error *err) {
    for (size_t at = 0, next; at < text->len; at += next) {
        size_t n = one_vector(text->data + at, text->len - at, &next);
        enum mil_status st = encode(t, args, text->data + at, n, err);
        if (st != MIL_OK) return st;
    }
    return MIL_OK;
}

static enum mil_status decode(const mil_tokenizer *t, const struct tokenize_args *args,
                              const char *numbers, struct mil_error *err) {
    struct mil_ids ids = {0};
    struct mil_text out = {0};
    enum mil_status st = mil_ids_parse(&ids, numbers, err);
    if (st == MIL_OK) st = mil_decode(t, ids.ids, ids.n, args->no_special, &out, err);
    if (st == MIL_OK) {
        fwrite(out.data ? out.data : "", 1, out.len, stdout);
        putchar('\n');
    }
    mil_text_release(&out);
    mil_ids_release(&ids);
    return st;
}

static enum mil_status work(const mil_tokenizer *t, const struct tokenize_args *args,
                            struct mil_error *err) {
    struct mil_text text = {0};
    enum mil_status st = args->text
                             ? mil_text_add(&text, args->text, strlen(args->text), err)
                             : mil_text_read(&text, args->file ? args->file : "-", TEXT_LIMIT, err);
    if (st == MIL_OK && args->decode)
        st = decode(t, args, text.data ? text.data : "", err);
    else if (st == MIL_OK && args->vectors)
        st = encode_vectors(t, args, &text, err);
    else if (st == MIL_OK)
        st = encode(t, args, text.data ? text.data : "", text.len, err);
    mil_text_release(&text);
    return st;
}

static enum mil_status run_tokenize(const void *p, struct mil_error *err) {
    const struct tokenize_args *args = p;
    if (args->text && args->file) return cli_usage(err, "give either --text or --file");
    if (args->decode && args->vectors) return cli_usage(err, "give either --decode or --vectors");
    mil_tokenizer *t = NULL;
    enum mil_status st = mil_tokenizer_open(args->model, &t, err);
    if (st == MIL_OK) st = work(t, args, err);
    mil_tokenizer_free(&t);
    return st;
}

static const struct option tokenize_positionals[] = {
    {.name = "MODEL",
     .type = OPTION_TEXT,
     .offset = offsetof(struct tokenize_args, model),
     .help = "model directory (tokenizer files are enough) or .gguf file (a vocabulary is enough)",
     .files = FILES_ANY,
     .required = true},
    OPTION_END,
};
static const struct option tokenize_options[] = {
    {.name = "text",
     .type = OPTION_TEXT,
     .offset = offsetof(struct tokenize_args, text),
     .value = "S",
     .help = "the text (with --decode: the ids)"},
    {.name = "file",
     .type = OPTION_TEXT,
     .offset = offsetof(struct tokenize_args, file),
     .value = "F",
     .help = "read it from a file, byte for byte; without --text and --file: from standard input",
     .files = FILES_ANY},
    {.name = "no-special",
     .type = OPTION_FLAG,
     .offset = offsetof(struct tokenize_args, no_special),
     .help = "do not add special tokens (BOS, EOS); with --decode: leave special tokens out"},
    {.name = "literal",
     .type = OPTION_FLAG,
     .offset = offsetof(struct tokenize_args, literal),
     .help = "special tokens written in the text stay text"},
    {.name = "decode",
     .type = OPTION_FLAG,
     .offset = offsetof(struct tokenize_args, decode),
     .help = "read ids, print their text"},
    {.name = "vectors",
     .type = OPTION_FLAG,
     .offset = offsetof(struct tokenize_args, vectors),
     .help = "read texts separated by lines " SEPARATOR ", print a line of ids for each"},
    OPTION_END,
};
const struct verb verb_tokenize = {
    .name = "tokenize",
    .summary = "token ids of a text, or the text of token ids",
    .example = "milora tokenize model/ --text 'Hello world'\n"
               "milora tokenize model/ --decode --text '19556 905'",
    .positionals = tokenize_positionals,
    .options = tokenize_options,
    .bytes = sizeof(struct tokenize_args),
    .run = run_tokenize,
};
