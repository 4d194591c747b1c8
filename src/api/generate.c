/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c - prompts to completions: encode, generate, stream, decode. */
#include "milora/generate.h"

#include <string.h>

#include "api/handle.h"
#include "core/mem.h"
#include "eval/generate.h"
#include "eval/prompt.h"

enum { DEFAULT_NEW_TOKENS = 256, DEFAULT_BATCH = 8, MAX_BEAMS = 256 };

struct job {
    mil_model *model;
    const struct mil_prompt *prompts;
    size_t n;
    struct prompter prompter; /* without a tokenizer: zeroed */
    struct tokens *tokens;
    struct generated *results;
    /* streaming */
    mil_piece_fn fn;
    void *ctx;
    struct token_stream *streams;
    struct str piece;
    enum mil_status failed;
    struct mil_error error;
};

static enum mil_status encode_one(struct job *j, size_t i, struct mil_error *err) {
    const struct mil_prompt *p = &j->prompts[i];
    struct tokens *t = &j->tokens[i];
    if (p->text) {
        struct message m = {.role = ROLE_USER, .content = p->text};
        return prompter_encode(&j->prompter, &m, 1, t, NULL, err);
    }
    t->ids = mem_alloc(MEM_TEXT, p->n_ids, sizeof *t->ids);
    if (!t->ids) return error_nomem(err, (uint64_t)p->n_ids * sizeof *t->ids);
    if (p->n_ids) memcpy(t->ids, p->ids, p->n_ids * sizeof *t->ids);
    t->n = t->cap = p->n_ids;
    return MIL_OK;
}

static enum mil_status encode_all(struct job *j, const struct mil_generate_options *o,
                                  struct mil_error *err) {
    bool texts = o->template_name != NULL;
    for (size_t i = 0; i < j->n; i++) texts = texts || j->prompts[i].text;
    if (texts || j->model->tokenizer)
        TRY(prompter_open(&j->prompter, j->model->tokenizer, o->template_name, err));
    for (size_t i = 0; i < j->n; i++) {
        enum mil_status st = encode_one(j, i, err);
        if (st != MIL_OK) {
            error_prefix(err, "prompt %zu: ", i + 1);
            return st;
        }
    }
    return MIL_OK;
}

static bool on_token(void *ctx, size_t prompt, int32_t id) {
    struct job *j = ctx;
    str_reset(&j->piece);
    const struct tokenizer *tokenizer = j->model->tokenizer;
    if (tokenizer && !tokenizer_is_special(tokenizer, id))
        j->failed = token_stream_push(&j->streams[prompt], id, &j->piece, &j->error);
    if (j->failed == MIL_OK) j->failed = str_status(&j->piece, &j->error);
    if (j->failed != MIL_OK) return false;
    return j->fn(j->ctx, prompt, str_c(&j->piece), j->piece.len, id) != 0;
}

static bool on_done(void *ctx, size_t prompt, const struct generated *result) {
    struct job *j = ctx;
    (void)result;
    token_stream_release(&j->streams[prompt]);
    return j->failed == MIL_OK;
}

static enum mil_status check_options(const struct mil_generate_options *o, struct mil_error *err) {
    if (o->max_new_tokens < 0 || o->batch_size < 0)
        return error_set(err, MIL_USAGE, "%s is %lld; it must be positive",
                         o->batch_size < 0 ? "batch_size" : "max_new_tokens",
                         (long long)(o->batch_size < 0 ? o->batch_size : o->max_new_tokens));
    if (o->num_beams < 0 || o->num_beams > MAX_BEAMS)
        return error_set(err, MIL_USAGE, "num_beams is %lld; it must be between 1 and %d",
                         (long long)o->num_beams, MAX_BEAMS);
    return MIL_OK;
}

static struct generate_options resolve(const struct job *j, const struct mil_generate_options *o) {
    return (struct generate_options){.max_new_tokens =
                                         o->max_new_tokens ? o->max_new_tokens : DEFAULT_NEW_TOKENS,
                                     .temperature = o->temperature,
                                     .top_p = o->top_p == 0 ? 1 : o->top_p,
                                     .seed = o->seed,
                                     .num_beams = o->num_beams ? o->num_beams : 1,
                                     .stop = j->prompter.stop,
                                     .n_stop = j->prompter.n_stop};
}

/* Longest prompt + answer, within the handle's positions. */
static int64_t length_needed(const struct job *j, int64_t max_new) {
    int64_t length = 1;
    for (size_t i = 0; i < j->n; i++) {
        int64_t n = (int64_t)j->tokens[i].n;
        if (n > j->model->positions - max_new) return j->model->positions;
        if (n + max_new > length) length = n + max_new;
    }
    return length;
}

static enum mil_status run(struct job *j, const struct mil_generate_options *options,
                           struct mil_error *err) {
    struct generate_options o = resolve(j, options);
    struct generate_events events = {.token = on_token, .done = on_done, .ctx = j};
    struct generator *g = NULL;
    int64_t batch = options->batch_size ? options->batch_size : DEFAULT_BATCH;
    if ((uint64_t)batch > j->n) batch = (int64_t)j->n;
    TRY(generator_new(j->model->model, batch * o.num_beams, length_needed(j, o.max_new_tokens), &g,
                      err));
    enum mil_status st = generate(g, j->tokens, j->n, &o, j->fn ? &events : NULL, j->results, err);
    generator_free(&g);
    if (j->failed == MIL_OK) return st;
    if (err) *err = j->error;
    return j->failed;
}

/* results[i] -> out[i]; the ids change hands. */
static enum mil_status complete(struct job *j, size_t i, struct mil_completion *out,
                                struct mil_error *err) {
    struct generated *g = &j->results[i];
    out->ids = g->ids;
    out->n_ids = g->n;
    out->n_prompt = j->tokens[i].n;
    out->ended = g->stopped;
    g->ids = NULL;
    if (!j->model->tokenizer) return MIL_OK;
    struct str text = {0};
    enum mil_status st =
        tokenizer_decode(j->model->tokenizer, out->ids, out->n_ids, true, &text, err);
    if (st == MIL_OK && !(out->text = str_take(&text))) st = error_nomem(err, text.len);
    str_release(&text);
    return st;
}

static void job_release(struct job *j) {
    for (size_t i = 0; i < j->n; i++) {
        if (j->tokens) tokens_release(&j->tokens[i]);
        if (j->streams) token_stream_release(&j->streams[i]);
    }
    if (j->results) generated_release(j->results, j->n);
    mem_free(j->tokens);
    mem_free(j->results);
    mem_free(j->streams);
    str_release(&j->piece);
}

enum mil_status mil_generate(mil_model *model, const struct mil_prompt *prompts, size_t n,
                             const struct mil_generate_options *options, mil_piece_fn fn, void *ctx,
                             struct mil_completion *out, struct mil_error *err) {
    struct job j = {.model = model, .prompts = prompts, .n = n, .fn = fn, .ctx = ctx};
    enum mil_status st = MIL_OK;
    if (n == 0) return MIL_OK;
    memset(out, 0, n * sizeof *out);
    TRY(check_options(options, err));
    j.tokens = mem_calloc(MEM_TEXT, n, sizeof *j.tokens);
    j.results = mem_calloc(MEM_TEXT, n, sizeof *j.results);
    j.streams = mem_calloc(MEM_TEXT, n, sizeof *j.streams);
    if (!j.tokens || !j.results || !j.streams) TRY_GOTO(error_nomem(err, n * sizeof *j.tokens));
    for (size_t i = 0; i < n; i++) j.streams[i].tokenizer = model->tokenizer;
    TRY_GOTO(encode_all(&j, options, err));
    TRY_GOTO(run(&j, options, err));
    for (size_t i = 0; i < n; i++) TRY_GOTO(complete(&j, i, &out[i], err));
    job_release(&j);
    return MIL_OK;
fail:
    job_release(&j);
    mil_completions_release(out, n);
    return st;
}

void mil_completions_release(struct mil_completion *completions, size_t n) {
    for (size_t i = 0; i < n; i++) {
        mem_free(completions[i].text);
        mem_free(completions[i].ids);
    }
    if (n) memset(completions, 0, n * sizeof *completions);
}
