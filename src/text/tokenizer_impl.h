/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_impl.h - inside of struct tokenizer, for the files that fill it (one a file format) and
 * the one that runs it.
 *
 *   text -> added tokens cut out -> normalizer -> (normalised) added tokens cut out -> pretok
 *        -> bpe -> prefix and suffix tokens */
#ifndef MIL_TEXT_TOKENIZER_IMPL_H
#define MIL_TEXT_TOKENIZER_IMPL_H

#include "text/added.h"
#include "text/bpe.h"
#include "text/decode.h"
#include "text/normalize.h"
#include "text/pretok.h"
#include "text/tokenizer.h"

#define TOKENIZER_MAX_AFFIX 8

struct tokenizer {
    struct bpe bpe; /* with the vocabulary */
    struct normalizer normalizer;
    struct pretok pretok;
    struct decoder decoder;
    struct added raw;    /* looked for in the original text */
    struct added normal; /* looked for in the normalised text */
    int32_t prefix[TOKENIZER_MAX_AFFIX], suffix[TOKENIZER_MAX_AFFIX];
    size_t n_prefix, n_suffix;
    int32_t bos, eos; /* -1: none */
    char *chat_template;
    struct hash *identity; /* of what was read so far */
};

/* NULL without memory. */
struct tokenizer *tokenizer_new(void);
/* A token in front (or behind); MIL_UNSUPPORTED beyond TOKENIZER_MAX_AFFIX. */
enum mil_status tokenizer_add_affix(struct tokenizer *t, bool prefix, int64_t id,
                                    struct mil_error *err);
/* Bytes that the tokenizer is made of: into its identity, with their name. */
void tokenizer_note(struct tokenizer *t, const char *name, const void *bytes, size_t n);
/* Fill byte_ids: from one-byte pieces (byte-level) or from "<0xXX>" pieces. */
void tokenizer_find_bytes(struct tokenizer *t);
/* The last step of every loader: index the added tokens. */
enum mil_status tokenizer_finish(struct tokenizer *t, struct mil_error *err);
/* Normaliser and decoder of SentencePiece: "▁" for spaces, with or without a dummy prefix. */
enum mil_status tokenizer_use_sentencepiece(struct tokenizer *t, bool dummy_prefix,
                                            bool collapse_spaces, bool escape_spaces,
                                            struct mil_error *err);

/* The alphabet of byte-level files: 256 printable characters that stand for the bytes. */
/* piece (n bytes) as the bytes it stands for, appended; false if it uses another character. */
bool bytelevel_unmap(const char *piece, size_t n, struct str *out);

/* One opener a file format.  dir's special tokens are read by the caller. */
enum mil_status tokenizer_read_json(const char *path, struct tokenizer *t, struct mil_error *err);
enum mil_status tokenizer_read_sentencepiece(const char *path, struct tokenizer *t,
                                             struct mil_error *err);
/* Special tokens and chat template from the other files of a model's directory. */
enum mil_status tokenizer_read_config(const char *dir, struct tokenizer *t, bool has_post_processor,
                                      struct mil_error *err);
/* tokenizer.json's list of added tokens (objects with id and content), or tokenizer_config.json's
 * added_tokens_decoder (objects by id). `node` is a json_t. */
enum mil_status tokenizer_read_added(const void *node, struct tokenizer *t, struct mil_error *err);

#endif
