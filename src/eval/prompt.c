/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.c - rendering and encoding of prompts.
 *
 * The tokenizer adds its own special tokens (BOS) unless the template's text holds them already; an
 * EOS that it would append is taken off again: the answer is still to come.  Special tokens written
 * in a raw prompt are those tokens; within a template only the template's own words can be. */
#include "eval/prompt.h"

#include <string.h>

static void add_stop(struct prompter *p, int32_t id) {
    for (size_t i = 0; i < p->n_stop; i++)
        if (p->stop[i] == id) return;
    if (id >= 0 && p->n_stop < PROMPT_MAX_STOPS) p->stop[p->n_stop++] = id;
}

enum mil_status prompt_needs_tokenizer(const struct tokenizer *tokenizer, struct mil_error *err) {
    if (tokenizer) return MIL_OK;
    return error_set(err, MIL_USAGE,
                     "the model's directory has no tokenizer: text cannot be encoded; put "
                     "tokenizer.json or tokenizer.model beside config.json");
}

enum mil_status prompter_open(struct prompter *p, const struct tokenizer *tokenizer,
                              const char *name, struct mil_error *err) {
    memset(p, 0, sizeof *p);
    TRY(prompt_needs_tokenizer(tokenizer, err));
    p->tokenizer = tokenizer;
    p->name = "raw";
    add_stop(p, tokenizer_eos(tokenizer));
    if (!name || strcmp(name, "raw") == 0) return MIL_OK;
    if (strcmp(name, "chat") == 0)
        TRY(template_recognise(tokenizer_chat_template(tokenizer), &p->template_, err));
    else
        TRY(template_find(name, &p->template_, err));
    p->name = template_name(p->template_);
    const char *end = template_end_token(p->template_);
    if (end) add_stop(p, tokenizer_id(tokenizer, end));
    return MIL_OK;
}

static void raw_text(const struct message *messages, size_t n, struct str *out) {
    for (size_t i = 0; i < n; i++) {
        if (i > 0) str_addc(out, '\n');
        str_add(out, messages[i].content);
        if (!messages[i].input || !*messages[i].input) continue;
        str_addc(out, '\n');
        str_add(out, messages[i].input);
    }
}

static enum mil_status encode(const struct prompter *p, const struct rendered *r,
                              struct tokens *out, struct mil_error *err) {
    unsigned flags = TOKENIZE_PARSE_SPECIAL | (r->adds_bos ? 0u : TOKENIZE_ADD_SPECIAL);
    const struct span whole = {0, r->text.len};
    const struct span *where = p->template_ ? r->literals : &whole;
    TRY(str_status(&r->text, err));
    TRY(tokenizer_encode_within(p->tokenizer, str_c(&r->text), r->text.len, flags, where,
                                p->template_ ? r->n_literals : 1, out, err));
    int32_t eos = tokenizer_eos(p->tokenizer);
    bool appended = out->n > 0 && eos >= 0 && out->ids[out->n - 1] == eos &&
                    out->starts[out->n - 1] == (int64_t)r->text.len && r->text.len > 0;
    if (appended) out->n--;
    return MIL_OK;
}

enum mil_status prompter_encode(const struct prompter *p, const struct message *messages, size_t n,
                                struct tokens *out, struct str *text, struct mil_error *err) {
    struct rendered r = {0};
    enum mil_status st = MIL_OK;
    if (p->template_)
        st = template_render(p->template_, messages, n, true, &r, err);
    else
        raw_text(messages, n, &r.text);
    if (st == MIL_OK && p->opening) str_add(&r.text, p->opening);
    if (st == MIL_OK) st = encode(p, &r, out, err);
    if (st == MIL_OK && text) {
        str_reset(text);
        str_addn(text, str_c(&r.text), r.text.len);
        st = str_status(text, err);
    }
    rendered_release(&r);
    return st;
}
