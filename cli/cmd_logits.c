/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_logits.c - `logits`: float32 [T, vocab] of one sequence into a NumPy file. */
#include <string.h>

#include "verbs.h"

struct logits_args {
    const char *model, *adapter, *ids, *text, *out, *dtype;
    bool no_special;
};

static enum mil_status read_ids(const struct logits_args *args, struct mil_ids *ids,
                                struct mil_error *err) {
    if (args->ids) return mil_ids_parse(ids, args->ids, err);
    mil_tokenizer *t = NULL;
    enum mil_status st = mil_tokenizer_open(args->model, &t, err);
    unsigned flags = MIL_PARSE_SPECIAL | (args->no_special ? 0 : MIL_ADD_SPECIAL);
    if (st == MIL_OK) st = mil_encode(t, args->text, strlen(args->text), flags, ids, err);
    mil_tokenizer_free(&t);
    return st;
}

static enum mil_status compute(const struct logits_args *args, const struct mil_ids *ids,
                               struct mil_error *err) {
    struct mil_model_options options = {.path = args->model,
                                        .adapter = args->adapter,
                                        .compute = cli_compute(args->dtype),
                                        .max_positions = (int64_t)ids->n};
    mil_model *m = NULL;
    enum mil_status st = mil_model_open(&options, &m, err);
    if (st == MIL_OK) {
        screen_line("%s", mil_model_backend(m));
        st = mil_logits_save(m, ids->ids, ids->n, args->out, err);
    }
    if (st == MIL_OK) screen_line("%s: float32 [%zu, %d]", args->out, ids->n, mil_model_vocab(m));
    mil_model_free(&m);
    return st;
}

static enum mil_status run_logits(const void *p, struct mil_error *err) {
    const struct logits_args *args = p;
    if (!args->ids == !args->text) return cli_usage(err, "give either --ids or --text");
    struct mil_ids ids = {0};
    enum mil_status st = read_ids(args, &ids, err);
    if (st == MIL_OK && ids.n == 0) st = cli_usage(err, "no token ids: nothing to compute");
    if (st == MIL_OK) st = compute(args, &ids, err);
    mil_ids_release(&ids);
    return st;
}

static const struct option logits_positionals[] = {POSITIONAL_MODEL(logits_args), OPTION_END};
static const struct option logits_options[] = {
    OPTION_ADAPTER(logits_args),
    {.name = "ids",
     .type = OPTION_TEXT,
     .offset = offsetof(struct logits_args, ids),
     .value = "IDS",
     .help = "token ids, separated by spaces or commas"},
    {.name = "text",
     .type = OPTION_TEXT,
     .offset = offsetof(struct logits_args, text),
     .value = "S",
     .help = "a text, tokenised by the model's own tokenizer"},
    {.name = "no-special",
     .type = OPTION_FLAG,
     .offset = offsetof(struct logits_args, no_special),
     .help = "with --text: do not add special tokens (BOS, EOS)"},
    {.name = "out",
     .type = OPTION_TEXT,
     .offset = offsetof(struct logits_args, out),
     .value = "F.npy",
     .help = "the file to write",
     .files = FILES_ANY,
     .required = true},
    OPTION_COMPUTE(logits_args),
    OPTION_END,
};
const struct verb verb_logits = {
    .name = "logits",
    .summary = "logits of every position of a sequence, as a NumPy file of float32 [T, vocab]",
    .example = "milora logits model/ --ids '1 2 3' --out logits.npy --dtype f32",
    .positionals = logits_positionals,
    .options = logits_options,
    .bytes = sizeof(struct logits_args),
    .run = run_logits,
};
