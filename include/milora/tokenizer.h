/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.h - text to token ids and back, as the model's own tokenizer does it.
 *
 * Opens a Hugging Face directory (weights are not needed), or a .gguf file (vocabulary-only files
 * too). Immutable after opening: one handle may serve several threads. */
#ifndef MILORA_TOKENIZER_H
#define MILORA_TOKENIZER_H

#include "milora/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mil_tokenizer mil_tokenizer;
/* *out is freed by mil_tokenizer_free, which takes NULL content. */
enum mil_status mil_tokenizer_open(const char *path, mil_tokenizer **out, struct mil_error *err);
void mil_tokenizer_free(mil_tokenizer **tokenizer);

enum {
    MIL_ADD_SPECIAL = 1,  /* what the tokenizer itself adds: BOS, EOS */
    MIL_PARSE_SPECIAL = 2 /* special tokens written in the text become those tokens */
};
/* Appends the ids of n bytes of UTF-8 (MIL_INPUT with the offset where it is not). */
enum mil_status mil_encode(const mil_tokenizer *tokenizer, const char *text, size_t n,
                           unsigned flags, struct mil_ids *out, struct mil_error *err);
/* Appends the text of n ids.  skip_special: leave special tokens out.  Ids outside the vocabulary
 * are MIL_INPUT. */
enum mil_status mil_decode(const mil_tokenizer *tokenizer, const int32_t *ids, size_t n,
                           int skip_special, struct mil_text *out, struct mil_error *err);

int32_t mil_tokenizer_vocab(const mil_tokenizer *tokenizer); /* largest id + 1 */
int32_t mil_tokenizer_bos(const mil_tokenizer *tokenizer);   /* -1: none */
int32_t mil_tokenizer_eos(const mil_tokenizer *tokenizer);   /* -1: none */
/* "byte-level BPE", "SentencePiece BPE"; static storage. */
const char *mil_tokenizer_kind(const mil_tokenizer *tokenizer);

#ifdef __cplusplus
}
#endif
#endif
