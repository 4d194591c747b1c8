/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_gguf.h - what the files that read a GGUF tokenizer share; private to src/text. */
#ifndef MIL_TEXT_TOKENIZER_GGUF_H
#define MIL_TEXT_TOKENIZER_GGUF_H

#include <stdbool.h>

#include "core/error.h"
#include "io/gguf.h"

enum gguf_token { GGUF_NORMAL = 1, GGUF_UNKNOWN, GGUF_CONTROL, GGUF_USER, GGUF_UNUSED, GGUF_BYTE };

/* tokenizer.ggml.pre -> expressions applied one after the other, matches isolated. */
struct pre_row {
    const char *name, *regexes[3];
    bool ignore_merges, add_bos;
};
/* The row of a file's pre-tokeniser; MIL_UNSUPPORTED by its name. */
enum mil_status gguf_pre_find(const struct gguf_file *f, const struct pre_row **out,
                              struct mil_error *err);
/* s is exactly this text. */
bool gguf_str_is(struct gguf_str s, const char *text);

#endif
