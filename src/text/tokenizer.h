/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.h - text to token ids and back, exactly as the model's own tokenizer does it.
 *
 * Kinds (a table; a new kind is one file and one row): byte-level BPE (tokenizer.json, GGUF "gpt2")
 * and SentencePiece BPE (tokenizer.model, its tokenizer.json form, GGUF "llama").  What a tokenizer
 * file asks for and no kind honours is MIL_UNSUPPORTED by name.  Immutable after opening: safe to
 * share. */
#ifndef MIL_TEXT_TOKENIZER_H
#define MIL_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"
#include "io/gguf.h"
#include "io/hash.h"

struct tokenizer;

#define TOKENIZER_MAX_TEXT (1 << 30) /* bytes of one text */

struct span {
    size_t begin, end; /* bytes [begin, end) of a text */
};

struct tokenizer_scratch;

/* Ids with the byte offset in the text at which each token starts (for a token that the tokenizer
 * adds itself: the offset where it stands, 0 or the text's length).  Zero-initialise; reuse keeps
 * capacity. */
struct tokens {
    int32_t *ids;
    int64_t *starts;
    size_t n, cap;
    struct tokenizer_scratch *scratch; /* borrowed; NULL: each call makes and frees its own */
};
void tokens_release(struct tokens *t);

/* What encoding works in, for many texts and one tokenizer: buffers, and the tokens of words seen
 * before.  For one thread at a time.  Tokens are the same with and without it. */
enum mil_status tokenizer_scratch_new(const struct tokenizer *t, struct tokenizer_scratch **out,
                                      struct mil_error *err);
void tokenizer_scratch_free(struct tokenizer_scratch **s);

/* From a directory: tokenizer.json first, else tokenizer.model; tokenizer_config.json for the
 * special tokens and the chat template.  From a GGUF file's metadata.  *out is freed by
 * tokenizer_free. */
enum mil_status tokenizer_open_dir(const char *dir, struct tokenizer **out, struct mil_error *err);
enum mil_status tokenizer_open_gguf(const struct gguf_file *f, struct tokenizer **out,
                                    struct mil_error *err);
void tokenizer_free(struct tokenizer **t);

enum {
    TOKENIZE_ADD_SPECIAL = 1,  /* what the post-processor adds: BOS, EOS */
    TOKENIZE_PARSE_SPECIAL = 2 /* special tokens written in the text become those tokens */
};
/* Replaces what is in out.  Text must be valid UTF-8 (MIL_INPUT with the offset).  A token's start
 * is the offset in this text of the character it begins with: after normalisation mapped back, and
 * for a prefix that the normaliser puts in front the offset of what it stands in front of.  Added
 * tokens that are not special are found with any flags. */
enum mil_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                                 unsigned flags, struct tokens *out, struct mil_error *err);
/* The same, but special tokens are parsed only where they lie wholly inside one of the n_where
 * spans (ascending): those are a template's own text; what a user wrote stays text, whatever it
 * says. */
enum mil_status tokenizer_encode_within(const struct tokenizer *t, const char *text, size_t n,
                                        unsigned flags, const struct span *where, size_t n_where,
                                        struct tokens *out, struct mil_error *err);
/* Appends to out (valid UTF-8: bytes that are none become U+FFFD).  Ids outside the vocabulary are
 * MIL_INPUT. */
enum mil_status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                                 bool skip_special, struct str *out, struct mil_error *err);

/* Incremental decoding for streams: push a token, get the text that is complete (no half
 * characters).  Initialise with {.tokenizer = t}.  finish gives what is left (a half character as
 * U+FFFD) and makes the stream ready for another text. */
struct token_stream {
    const struct tokenizer *tokenizer;
    struct str pending;
    bool started;
};
enum mil_status token_stream_push(struct token_stream *s, int32_t id, struct str *out,
                                  struct mil_error *err);
enum mil_status token_stream_finish(struct token_stream *s, struct str *out, struct mil_error *err);
void token_stream_release(struct token_stream *s);

int32_t tokenizer_vocab_size(const struct tokenizer *t); /* largest id + 1, added tokens included */
int32_t tokenizer_bos(const struct tokenizer *t);        /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *t);        /* -1: none */
int32_t tokenizer_id(const struct tokenizer *t, const char *piece); /* -1: none */
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
/* 32 hexadecimal digits (io/hash.h) over the bytes of every file that the tokenizer was made of. */
void tokenizer_identity(const struct tokenizer *t, char out[HASH_HEX]);
const char *tokenizer_kind(const struct tokenizer *t); /* "byte-level BPE", "SentencePiece BPE" */
const char *tokenizer_chat_template(const struct tokenizer *t); /* Jinja source, or NULL */

#endif
