/* SPDX-License-Identifier: Apache-2.0 */
/* corpus.h - a text file, or the `text` of rows, as tokens with their length in bytes. */
#ifndef MIL_EVAL_CORPUS_H
#define MIL_EVAL_CORPUS_H

#include "text/tokenizer.h"

/* Document d is tokens [begin[d], begin[d + 1]).  bytes[t]: bytes of the text from where token t
 * starts to where the next one does, so that they sum up to the document. */
struct corpus {
    int32_t *ids;
    int32_t *bytes;
    int64_t *begin;
    int64_t n_docs, n_tokens, cap_docs, cap_tokens;
};
/* A path that ends in .json or .jsonl holds rows with a key `text`, each a document; anything else
 * is one document.  Special tokens are added and recognised as the tokenizer does by default. */
enum mil_status corpus_load(const char *path, const struct tokenizer *tokenizer, struct corpus *out,
                            struct mil_error *err);
void corpus_release(struct corpus *c);

#endif
