/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_carry.h - the tokenizer inside a GGUF file, written as the files of a Hugging Face
 * directory: what a merged model needs to be used where it came from a GGUF file. */
#ifndef MIL_TEXT_TOKENIZER_CARRY_H
#define MIL_TEXT_TOKENIZER_CARRY_H

#include "core/error.h"
#include "io/gguf.h"

/* Write tokenizer.json and tokenizer_config.json into dir, which exists.  Reading them back, here or
 * with the `tokenizers` library, gives the ids that the GGUF file's own tokenizer gives.  Fails as
 * tokenizer_open_gguf fails. */
enum mil_status tokenizer_carry_gguf(const struct gguf_file *f, const char *dir,
                                     struct mil_error *err);

#endif
