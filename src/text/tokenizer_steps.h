/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_steps.h - the parts of tokenizer.json around the model, each a step or a Sequence of
 * steps; a step of an unknown type or option is MIL_UNSUPPORTED by name.  A missing or null node is
 * an empty list. */
#ifndef MIL_TEXT_TOKENIZER_STEPS_H
#define MIL_TEXT_TOKENIZER_STEPS_H

#include <jansson.h>

#include "text/tokenizer_impl.h"

/* Sets bpe.byte_symbols when a ByteLevel step is there: read it before the vocabulary. */
enum mil_status tokenizer_read_pretok(const json_t *node, struct tokenizer *t,
                                      struct mil_error *err);
enum mil_status tokenizer_read_normalizer(const json_t *node, struct tokenizer *t,
                                          struct mil_error *err);
enum mil_status tokenizer_read_decoder(const json_t *node, struct tokenizer *t,
                                       struct mil_error *err);
/* After the vocabulary and the added tokens. */
enum mil_status tokenizer_read_post_processor(const json_t *node, struct tokenizer *t,
                                              struct mil_error *err);
/* A merge of two pieces in file form; joined is scratch. */
enum mil_status tokenizer_put_merge(struct tokenizer *t, const char *half[2], const size_t n[2],
                                    int32_t rank, struct str *joined, struct mil_error *err);

#endif
