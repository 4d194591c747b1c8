/* SPDX-License-Identifier: Apache-2.0 */
/* template.h - prompt and chat templates by name: alpaca, alpaca_short, chatml, chatml_bare,
 * llama2, llama3, vicuna, plain.  A table; a new template is one row (docs/formats/templates.md).
 *
 * Rendering gives the text, the spans of it that the model is to learn (what the assistant says,
 * with the turn's own terminator where the template has one), and the spans that are the template's
 * own words: only there may special tokens be parsed.  The final EOS token is not text; the data
 * set appends it. */
#ifndef MIL_TEXT_TEMPLATE_H
#define MIL_TEXT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/str.h"
#include "text/tokenizer.h" /* struct span */

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT };
struct message {
    enum role role;
    const char *content; /* borrowed */
    const char *input;   /* alpaca's "input" beside a user's instruction, or NULL */
};

struct rendered {
    struct str text;
    struct span *spans; /* supervised parts, ascending */
    size_t n_spans, cap_spans;
    struct span *literals; /* the template's own text, ascending (tokenizer_encode_within) */
    size_t n_literals, cap_literals;
    bool adds_bos; /* the text itself holds the beginning-of-text marker */
};
void rendered_release(struct rendered *r);

struct chat_template;
/* Names in table order, NULL-terminated. */
const char *const *template_names(void);
/* MIL_USAGE with the nearest known name. */
enum mil_status template_find(const char *name, const struct chat_template **out,
                              struct mil_error *err);
/* The template that a model's own Jinja chat_template is, told by its source (white space and
 * quoting inside tags aside) being one that is known to render as ours; MIL_UNSUPPORTED with a hint
 * to name one if it is none of those.  source == NULL: MIL_UNSUPPORTED likewise. */
enum mil_status template_recognise(const char *source, const struct chat_template **out,
                                   struct mil_error *err);
const char *template_name(const struct chat_template *t);
/* Special tokens that end an assistant turn in this template ("<|im_end|>"), or NULL: plain EOS. */
const char *template_end_token(const struct chat_template *t);
/* Render n messages.  open_turn: end with the header of an assistant turn, to be generated.  Roles
 * that the template cannot express (two users in a row, alpaca with several turns) are MIL_INPUT.
 * r is reset first; release it also after failure. */
enum mil_status template_render(const struct chat_template *t, const struct message *messages,
                                size_t n, bool open_turn, struct rendered *r,
                                struct mil_error *err);
/* Render, and tokenise the rendering once: special tokens only in the template's own words, BOS as
 * the tokenizer says unless the template wrote it.  r and out are replaced; starts in out are
 * offsets in r->text.  For training and generation alike. */
enum mil_status template_encode(const struct chat_template *t, const struct tokenizer *tok,
                                const struct message *messages, size_t n, bool open_turn,
                                struct rendered *r, struct tokens *out, struct mil_error *err);

#endif
