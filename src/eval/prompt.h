/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.h - messages to prompt tokens, by template or raw, with the tokens that end the answer.
 *
 * Shared by generation, conversations and evaluation, so that all of them see the same tokens. */
#ifndef MIL_EVAL_PROMPT_H
#define MIL_EVAL_PROMPT_H

#include "text/template.h"
#include "text/tokenizer.h"

#define PROMPT_MAX_STOPS 4

struct prompter {
    const struct tokenizer *tokenizer;     /* borrowed */
    const struct chat_template *template_; /* NULL: raw */
    const char *name;                      /* "raw", or the template's name */
    const char *opening; /* NULL, or words that the answer begins with: the end of every prompt */
    int32_t stop[PROMPT_MAX_STOPS]; /* EOS, and the template's end of a turn */
    size_t n_stop;
};
/* MIL_USAGE, with the remedy, where a model has none (NULL). */
enum mil_status prompt_needs_tokenizer(const struct tokenizer *tokenizer, struct mil_error *err);
/* name: NULL or "raw": none; "chat": the model's own (MIL_UNSUPPORTED when it is none of ours);
 * else a template's name (MIL_USAGE with the nearest).  tokenizer NULL: MIL_USAGE. */
enum mil_status prompter_open(struct prompter *p, const struct tokenizer *tokenizer,
                              const char *name, struct mil_error *err);
/* Tokens of the messages with an assistant's turn opened (raw: the contents joined by newlines);
 * text, unless NULL, is reset and gets the prompt as text. */
enum mil_status prompter_encode(const struct prompter *p, const struct message *messages, size_t n,
                                struct tokens *out, struct str *text, struct mil_error *err);

#endif
