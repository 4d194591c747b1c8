/* SPDX-License-Identifier: Apache-2.0 */
/* chat.c - a conversation: every turn renders all of it, and the generator runs what its cache does
 * not hold yet.
 *
 * The reply's own tokens are in the cache as they were generated; where encoding its text again
 * gives other tokens, the tail from there is computed anew, so that what the model sees is always
 * exactly what the template makes of the conversation. */
#include <string.h>

#include "api/handle.h"
#include "core/mem.h"
#include "eval/generate.h"
#include "eval/prompt.h"
#include "milora/generate.h"

enum { DEFAULT_REPLY = 512 };

struct mil_chat {
    mil_model *model;
    struct mil_chat_options options; /* strings NULL */
    struct prompter prompter;
    struct generator *generator;
    struct message *messages; /* contents owned */
    size_t n, cap, n_system;
    int64_t context;
};
struct turn {
    mil_chat *chat;
    mil_piece_fn fn;
    void *ctx;
    struct token_stream stream;
    struct str piece;
    enum mil_status failed;
    struct mil_error error;
};

static enum mil_status push(mil_chat *c, enum role role, const char *text, struct mil_error *err) {
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 8;
        struct message *grown = mem_realloc(MEM_TEXT, c->messages, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        c->messages = grown;
        c->cap = cap;
    }
    char *copy = mem_strdup(MEM_TEXT, text);
    if (!copy) return error_nomem(err, strlen(text));
    c->messages[c->n++] = (struct message){.role = role, .content = copy};
    return MIL_OK;
}

static void drop_to(mil_chat *c, size_t n) {
    while (c->n > n) mem_free((char *)(uintptr_t)c->messages[--c->n].content);
}

static enum mil_status check_options(const mil_model *model, const struct mil_chat_options *o,
                                     struct mil_error *err) {
    if (o->max_new_tokens < 0)
        return error_set(err, MIL_USAGE, "max_new_tokens is %lld; it must be positive",
                         (long long)o->max_new_tokens);
    if (o->context < 0 || o->context == 1 || o->context > model->positions)
        return error_set(err, MIL_USAGE,
                         "context is %lld; it must be between 2 and the %lld positions the model "
                         "was opened for",
                         (long long)o->context, (long long)model->positions);
    return MIL_OK;
}

enum mil_status mil_chat_new(mil_model *model, const struct mil_chat_options *options,
                             mil_chat **out, struct mil_error *err) {
    *out = NULL;
    TRY(check_options(model, options, err));
    mil_chat *c = mem_calloc(MEM_OTHER, 1, sizeof *c);
    if (!c) return error_nomem(err, sizeof *c);
    enum mil_status st;
    const char *name = options->template_name ? options->template_name : "chat";
    c->model = model;
    c->options = *options;
    c->options.template_name = c->options.system = NULL;
    c->context = options->context ? options->context : model->positions;
    TRY_GOTO(prompter_open(&c->prompter, model->tokenizer, name, err));
    TRY_GOTO(generator_new(model->model, 1, c->context, &c->generator, err));
    if (options->system) TRY_GOTO(push(c, ROLE_SYSTEM, options->system, err));
    c->n_system = c->n;
    *out = c;
    return MIL_OK;
fail:
    mil_chat_free(&c);
    return st;
}

void mil_chat_free(mil_chat **chat) {
    mil_chat *c = *chat;
    if (!c) return;
    drop_to(c, 0);
    mem_free(c->messages);
    generator_free(&c->generator);
    mem_free(c);
    *chat = NULL;
}

void mil_chat_reset(mil_chat *chat) {
    drop_to(chat, chat->n_system);
}

const char *mil_chat_template(const mil_chat *chat) {
    return chat->prompter.name;
}

int64_t mil_chat_tokens(const mil_chat *chat) {
    return chat->n > chat->n_system ? generator_held(chat->generator) : 0;
}

int64_t mil_chat_context(const mil_chat *chat) {
    return chat->context;
}

static bool on_token(void *ctx, size_t prompt, int32_t id) {
    struct turn *t = ctx;
    str_reset(&t->piece);
    if (!tokenizer_is_special(t->chat->model->tokenizer, id))
        t->failed = token_stream_push(&t->stream, id, &t->piece, &t->error);
    if (t->failed == MIL_OK) t->failed = str_status(&t->piece, &t->error);
    if (t->failed != MIL_OK) return false;
    return t->fn(t->ctx, prompt, str_c(&t->piece), t->piece.len, id) != 0;
}

static enum mil_status reply_tokens(struct turn *t, const struct tokens *prompt,
                                    struct generated *out, struct mil_error *err) {
    const mil_chat *c = t->chat;
    const struct mil_chat_options *o = &c->options;
    struct generate_options g = {.max_new_tokens =
                                     o->max_new_tokens ? o->max_new_tokens : DEFAULT_REPLY,
                                 .temperature = o->temperature,
                                 .top_p = o->top_p == 0 ? 1 : o->top_p,
                                 .seed = o->seed,
                                 .num_beams = 1,
                                 .stop = c->prompter.stop,
                                 .n_stop = c->prompter.n_stop,
                                 .reuse = true};
    struct generate_events events = {.token = on_token, .ctx = t};
    if ((int64_t)prompt->n >= c->context)
        return error_set(err, MIL_INPUT,
                         "the conversation has %zu tokens; a context of %lld leaves no room for a "
                         "reply: start anew, or open the model with more positions",
                         prompt->n, (long long)c->context);
    enum mil_status st = generate(c->generator, prompt, 1, &g, t->fn ? &events : NULL, out, err);
    if (t->failed == MIL_OK) return st;
    generated_release(out, 1);
    if (err) *err = t->error;
    return t->failed;
}

static enum mil_status hand_over(struct generated *g, struct str *text, size_t n_prompt,
                                 struct mil_completion *reply, struct mil_error *err) {
    char *owned = str_take(text);
    if (!owned) return error_nomem(err, 0);
    *reply = (struct mil_completion){
        .text = owned, .ids = g->ids, .n_ids = g->n, .n_prompt = n_prompt, .ended = g->stopped};
    g->ids = NULL;
    return MIL_OK;
}

static enum mil_status say(struct turn *t, struct tokens *prompt, struct mil_completion *reply,
                           struct mil_error *err) {
    mil_chat *c = t->chat;
    struct generated g = {.ids = NULL};
    struct str text = {0};
    enum mil_status st;
    TRY_GOTO(prompter_encode(&c->prompter, c->messages, c->n, prompt, NULL, err));
    TRY_GOTO(reply_tokens(t, prompt, &g, err));
    TRY_GOTO(tokenizer_decode(c->model->tokenizer, g.ids, g.n, true, &text, err));
    TRY_GOTO(str_status(&text, err));
    TRY_GOTO(push(c, ROLE_ASSISTANT, str_c(&text), err));
    if (reply) st = hand_over(&g, &text, prompt->n, reply, err);
fail:
    generated_release(&g, 1);
    str_release(&text);
    return st;
}

enum mil_status mil_chat_say(mil_chat *chat, const char *text, mil_piece_fn fn, void *ctx,
                             struct mil_completion *reply, struct mil_error *err) {
    struct turn t = {.chat = chat, .fn = fn, .ctx = ctx};
    struct tokens prompt = {0};
    size_t before = chat->n;
    if (reply) *reply = (struct mil_completion){.text = NULL};
    t.stream.tokenizer = chat->model->tokenizer;
    enum mil_status st = push(chat, ROLE_USER, text, err);
    if (st == MIL_OK) st = say(&t, &prompt, reply, err);
    if (st != MIL_OK) drop_to(chat, before);
    tokens_release(&prompt);
    token_stream_release(&t.stream);
    str_release(&t.piece);
    return st;
}
