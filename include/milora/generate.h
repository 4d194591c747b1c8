/* SPDX-License-Identifier: Apache-2.0 */
/* generate.h - text from a model: single prompts, batches of prompts, and conversations.
 *
 * Option structs may be zeroed: a zero is the default that its comment names.  The ids that a
 * prompt gets do not depend on the batch it ran in, nor on batch_size.  One handle, one thread at a
 * time. */
#ifndef MILORA_GENERATE_H
#define MILORA_GENERATE_H

#include <stddef.h>
#include <stdint.h>

#include "milora/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- prompts to completions ---- */

/* Text (NUL-terminated UTF-8), or, where text is NULL, n_ids token ids used as they are.  Raw text
 * gets the special tokens that the tokenizer adds (BOS). */
struct mil_prompt {
    const char *text;
    const int32_t *ids;
    size_t n_ids;
};

struct mil_generate_options {
    int64_t max_new_tokens; /* 0: 256; less where the model's positions end */
    double temperature;     /* 0: greedy */
    double top_p;           /* 0 or 1: off */
    uint64_t seed;
    int64_t num_beams;  /* 0 or 1: none; > 1: beam search (temperature must be 0), scores divided by
                           the length, as transformers does by default */
    int64_t batch_size; /* prompts that run at once; 0: 8 */
    const char *template_name; /* NULL: raw; a name ("alpaca", "chatml", ...); "chat": the model's
                                  own.  The prompt's text is then the user's message. */
};

/* What one prompt became.  Owned by the struct; mil_completions_release frees it. */
struct mil_completion {
    char *text; /* NUL-terminated, special tokens left out; NULL when the model has no tokenizer */
    int32_t *ids; /* new tokens, the one that ended it not included */
    size_t n_ids;
    size_t n_prompt; /* tokens of the prompt as it was run */
    int ended;       /* 1: the model ended it; 0: a limit or the callback did */
};

/* A piece of text of prompt number `prompt` (whole characters, maybe none: n == 0) and the token
 * that completed it.  Return 0 to stop this prompt, anything else to go on.  With beams the pieces
 * come when the prompt is done, and the return value has nothing left to stop. */
typedef int (*mil_piece_fn)(void *ctx, size_t prompt, const char *piece, size_t n, int32_t id);

/* Generate for n prompts into out[n].  fn may be NULL.  On failure out is zeroed.  MIL_USAGE: an
 * option out of range, or text where the model has no tokenizer; MIL_INPUT: a prompt that is empty,
 * not UTF-8, has ids outside the vocabulary, or leaves no room for a token (number and limit
 * named). */
enum mil_status mil_generate(mil_model *model, const struct mil_prompt *prompts, size_t n,
                             const struct mil_generate_options *options, mil_piece_fn fn, void *ctx,
                             struct mil_completion *out, struct mil_error *err);
void mil_completions_release(struct mil_completion *completions, size_t n);

/* ---- conversations ---- */

struct mil_chat_options {
    const char *template_name; /* NULL: recognised from the model (MIL_UNSUPPORTED names the remedy
                                  when it is none of ours) */
    const char *system;        /* system message, or NULL; borrowed only during mil_chat_new */
    int64_t max_new_tokens;    /* of one reply; 0: 512 */
    double temperature;        /* 0: greedy */
    double top_p;              /* 0 or 1: off */
    uint64_t seed;
    int64_t context; /* tokens kept; 0: the handle's positions */
};
typedef struct mil_chat mil_chat;
/* The model must outlive the chat. *out is freed by mil_chat_free, which takes NULL content. */
enum mil_status mil_chat_new(mil_model *model, const struct mil_chat_options *options,
                             mil_chat **out, struct mil_error *err);
void mil_chat_free(mil_chat **chat);
/* Say something and get the reply; fn (prompt is 0) streams it and may stop it: what was said until
 * then becomes part of the conversation.  reply may be NULL, else release it with
 * mil_completions_release(reply, 1).  Only what is new since the last turn is computed.  MIL_INPUT
 * when the conversation no longer fits the context.  After a failure the conversation is as it was
 * before the call. */
enum mil_status mil_chat_say(mil_chat *chat, const char *text, mil_piece_fn fn, void *ctx,
                             struct mil_completion *reply, struct mil_error *err);
/* Forget everything but the system message. */
void mil_chat_reset(mil_chat *chat);
/* Name of the template in use; static storage. */
const char *mil_chat_template(const mil_chat *chat);
/* Tokens the conversation takes now, and what it may take. */
int64_t mil_chat_tokens(const mil_chat *chat);
int64_t mil_chat_context(const mil_chat *chat);

#ifdef __cplusplus
}
#endif
#endif
