/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_generate.c - `generate`: one prompt to standard output as it is made, or a file of prompts to
 * a file of completions. */
#include <jansson.h>
#include <string.h>

#include "verbs.h"

struct generate_args {
    const char *model, *adapter, *prompt, *prompt_ids, *prompts, *out, *template_name, *dtype;
    int64_t max_new_tokens, seed, num_beams, batch_size, max_length;
    double temperature, top_p;
    bool ids;
};

static struct mil_generate_options options_of(const struct generate_args *args) {
    return (struct mil_generate_options){.max_new_tokens = args->max_new_tokens,
                                         .temperature = args->temperature,
                                         .top_p = args->top_p,
                                         .seed = (uint64_t)args->seed,
                                         .num_beams = args->num_beams,
                                         .batch_size = args->batch_size,
                                         .template_name = args->template_name};
}

/* ---- one prompt */

struct stream_state {
    bool ids;
    size_t n;
    double start;
};

/* Stops when the reader of standard output has gone. */
static int on_piece(void *ctx, size_t prompt, const char *piece, size_t n, int32_t id) {
    struct stream_state *s = ctx;
    (void)prompt;
    if (s->ids)
        printf(s->n ? " %d" : "%d", id);
    else
        fwrite(piece, 1, n, stdout);
    s->n++;
    return fflush(stdout) == 0 && !ferror(stdout) && !mil_stop_requested();
}

static enum mil_status one_prompt(const struct generate_args *args, mil_model *m,
                                  struct mil_error *err) {
    struct mil_ids ids = {0};
    struct mil_completion c = {0};
    struct stream_state state = {args->ids, 0, mil_clock()};
    struct mil_generate_options options = options_of(args);
    enum mil_status st = MIL_OK;
    if (args->prompt_ids) st = mil_ids_parse(&ids, args->prompt_ids, err);
    struct mil_prompt prompt = {.text = args->prompt, .ids = ids.ids, .n_ids = ids.n};
    if (st == MIL_OK) st = mil_generate(m, &prompt, 1, &options, on_piece, &state, &c, err);
    if (st == MIL_OK) {
        double seconds = mil_clock() - state.start;
        putchar('\n');
        fflush(stdout);
        if (mil_stop_requested())
            st = cli_fail(err, MIL_INTERRUPTED, "stopped on request after %zu tokens", c.n_ids);
        screen_line("%zu prompt tokens, %zu new tokens, %.1f tok/s%s", c.n_prompt, c.n_ids,
                    seconds > 0 ? (double)c.n_ids / seconds : 0.0,
                    c.ended ? "" : "; not ended by the model");
    }
    mil_completions_release(&c, 1);
    mil_ids_release(&ids);
    return st;
}

/* ---- a file of prompts */

struct batch_state {
    size_t tokens;
    double start;
};

static int on_batch_piece(void *ctx, size_t prompt, const char *piece, size_t n, int32_t id) {
    struct batch_state *s = ctx;
    (void)piece;
    (void)n;
    (void)id;
    double elapsed = mil_clock() - s->start;
    s->tokens++;
    screen_progress("prompt %zu | %zu tokens | %.1f tok/s", prompt + 1, s->tokens,
                    elapsed > 0 ? (double)s->tokens / elapsed : 0.0);
    return !mil_stop_requested();
}

static enum mil_status parse_line(const char *path, size_t number, const char *line, size_t n,
                                  json_t *rows, struct mil_error *err) {
    json_error_t why;
    json_t *row = json_loadb(line, n, JSON_REJECT_DUPLICATES, &why);
    if (!row)
        return cli_fail(err, MIL_INPUT, "%s: line %zu, column %d: %s", path, number, why.column,
                        why.text);
    bool good = json_is_string(json_object_get(row, "prompt"));
    json_array_append_new(rows, row);
    if (good) return MIL_OK;
    return cli_fail(err, MIL_INPUT, "%s: line %zu: no \"prompt\" (a string) there", path, number);
}

/* The objects of a JSON Lines file, blank lines left out. */
static enum mil_status read_prompts(const char *path, json_t *rows, struct mil_error *err) {
    struct mil_text text = {0};
    enum mil_status st = mil_text_read(&text, path, (size_t)1 << 30, err);
    size_t number = 0;
    for (const char *s = text.data; st == MIL_OK && s && s < text.data + text.len;) {
        const char *end = memchr(s, '\n', (size_t)(text.data + text.len - s));
        if (!end) end = text.data + text.len;
        number++;
        if (strspn(s, " \t\r") < (size_t)(end - s))
            st = parse_line(path, number, s, (size_t)(end - s), rows, err);
        s = end + 1;
    }
    if (st == MIL_OK && json_array_size(rows) == 0)
        st = cli_fail(err, MIL_INPUT, "%s: no prompt in it", path);
    mil_text_release(&text);
    return st;
}

static int append(const char *bytes, size_t n, void *text) {
    return mil_text_add(text, bytes, n, NULL) == MIL_OK ? 0 : -1;
}

/* The row with "completion", "ids" and "ended" beside what it had. */
static enum mil_status add_row(json_t *row, const struct mil_completion *c, struct mil_text *out,
                               struct mil_error *err) {
    json_t *ids = json_array();
    for (size_t i = 0; i < c->n_ids; i++) json_array_append_new(ids, json_integer(c->ids[i]));
    if (c->text) json_object_set_new(row, "completion", json_string(c->text));
    json_object_set_new(row, "ids", ids);
    json_object_set_new(row, "ended", json_boolean(c->ended));
    if (json_dump_callback(row, append, out, JSON_COMPACT | JSON_REAL_PRECISION(15)) != 0)
        return cli_fail(err, MIL_NOMEM, "out of memory");
    return mil_text_add(out, "\n", 1, err);
}

static enum mil_status write_rows(const struct generate_args *args, json_t *rows,
                                  const struct mil_completion *completions, struct mil_error *err) {
    struct mil_text text = {0};
    enum mil_status st = MIL_OK;
    for (size_t i = 0; st == MIL_OK && i < json_array_size(rows); i++)
        st = add_row(json_array_get(rows, i), &completions[i], &text, err);
    if (st == MIL_OK && args->out)
        st = mil_file_write(args->out, text.data, text.len, err);
    else if (st == MIL_OK)
        fwrite(text.data, 1, text.len, stdout);
    mil_text_release(&text);
    return st;
}

static enum mil_status run_rows(const struct generate_args *args, mil_model *m, json_t *rows,
                                struct mil_error *err) {
    size_t n = json_array_size(rows);
    struct mil_prompt *prompts = mil_alloc(n, sizeof *prompts);
    struct mil_completion *completions = mil_alloc(n, sizeof *completions);
    struct mil_generate_options options = options_of(args);
    struct batch_state state = {0, mil_clock()};
    enum mil_status st = MIL_OK;
    if (!prompts || !completions) st = cli_fail(err, MIL_NOMEM, "out of memory");
    for (size_t i = 0; st == MIL_OK && i < n; i++)
        prompts[i].text = json_string_value(json_object_get(json_array_get(rows, i), "prompt"));
    if (st == MIL_OK)
        st = mil_generate(m, prompts, n, &options, on_batch_piece, &state, completions, err);
    screen_clear();
    if (st == MIL_OK && mil_stop_requested())
        st = cli_fail(err, MIL_INTERRUPTED, "stopped on request; nothing was written");
    if (st == MIL_OK) {
        double seconds = mil_clock() - state.start;
        screen_line("%zu prompts, %zu new tokens, %.1f tok/s", n, state.tokens,
                    seconds > 0 ? (double)state.tokens / seconds : 0.0);
        st = write_rows(args, rows, completions, err);
    }
    if (completions) mil_completions_release(completions, n);
    mil_free(completions);
    mil_free(prompts);
    return st;
}

/* ---- the verb */

static enum mil_status with_model(const struct generate_args *args, json_t *rows,
                                  struct mil_error *err) {
    struct mil_model_options options = {.path = args->model,
                                        .adapter = args->adapter,
                                        .compute = cli_compute(args->dtype),
                                        .max_positions = args->max_length};
    mil_model *m = NULL;
    enum mil_status st = mil_model_open(&options, &m, err);
    if (st == MIL_OK) {
        screen_line("%s", mil_model_backend(m));
        st = rows ? run_rows(args, m, rows, err) : one_prompt(args, m, err);
    }
    mil_model_free(&m);
    return st;
}

static enum mil_status run_generate(const void *p, struct mil_error *err) {
    const struct generate_args *args = p;
    int given = !!args->prompt + !!args->prompt_ids + !!args->prompts;
    if (given != 1) return cli_usage(err, "give one of --prompt, --prompt-ids and --prompts");
    if (args->out && !args->prompts) return cli_usage(err, "--out belongs to --prompts");
    cli_catch_stop();
    if (!args->prompts) return with_model(args, NULL, err);
    json_t *rows = json_array();
    enum mil_status st = read_prompts(args->prompts, rows, err);
    if (st == MIL_OK) st = with_model(args, rows, err);
    json_decref(rows);
    return st;
}

static const struct option generate_positionals[] = {POSITIONAL_MODEL(generate_args), OPTION_END};
static const struct option generate_options[] = {
    OPTION_ADAPTER(generate_args),
    {.name = "prompt",
     .type = OPTION_TEXT,
     .offset = offsetof(struct generate_args, prompt),
     .value = "S",
     .help = "the text to go on from"},
    {.name = "prompt-ids",
     .type = OPTION_TEXT,
     .offset = offsetof(struct generate_args, prompt_ids),
     .value = "IDS",
     .help = "the same as token ids, used as they are"},
    {.name = "prompts",
     .type = OPTION_TEXT,
     .offset = offsetof(struct generate_args, prompts),
     .value = "F.jsonl",
     .help = "a file of objects {\"prompt\": ...}, one a line; '-' is standard input",
     .files = FILES_ANY},
    {.name = "out",
     .type = OPTION_TEXT,
     .offset = offsetof(struct generate_args, out),
     .value = "F.jsonl",
     .help = "with --prompts: write the objects with \"completion\", \"ids\" and \"ended\" there "
             "instead of to standard output",
     .files = FILES_ANY},
    {.name = "template",
     .type = OPTION_TEXT,
     .offset = offsetof(struct generate_args, template_name),
     .value = "NAME",
     .help = "render the prompt as the user's message of this template; chat: the model's own"},
    {.name = "max-new-tokens",
     .type = OPTION_INT,
     .offset = offsetof(struct generate_args, max_new_tokens),
     .value = "N",
     .fallback = "256",
     .help = "longest completion",
     .min = 1,
     .max = 1e7},
    {.name = "temperature",
     .type = OPTION_REAL,
     .offset = offsetof(struct generate_args, temperature),
     .value = "T",
     .fallback = "0",
     .help = "0: the likeliest token; above: sampled",
     .min = 0,
     .max = 100},
    {.name = "top-p",
     .type = OPTION_REAL,
     .offset = offsetof(struct generate_args, top_p),
     .value = "P",
     .fallback = "1",
     .help = "sample from the likeliest tokens that together have this probability",
     .min = 0,
     .max = 1},
    {.name = "seed",
     .type = OPTION_INT,
     .offset = offsetof(struct generate_args, seed),
     .value = "S",
     .fallback = "42",
     .help = "of the sampling",
     .min = 0,
     .max = 9e18},
    {.name = "num-beams",
     .type = OPTION_INT,
     .offset = offsetof(struct generate_args, num_beams),
     .value = "N",
     .fallback = "1",
     .help = "beams of the search",
     .min = 1,
     .max = 64},
    {.name = "batch-size",
     .type = OPTION_INT,
     .offset = offsetof(struct generate_args, batch_size),
     .value = "B",
     .fallback = "8",
     .help = "prompts at once; never changes the completions",
     .min = 1,
     .max = 65536},
    {.name = "max-length",
     .type = OPTION_INT,
     .offset = offsetof(struct generate_args, max_length),
     .value = "N",
     .fallback = "0",
     .help = "longest prompt and completion; 0: the model's own limit, at most 8192",
     .min = 0,
     .max = 1 << 24},
    {.name = "ids",
     .type = OPTION_FLAG,
     .offset = offsetof(struct generate_args, ids),
     .help = "print token ids instead of text"},
    OPTION_COMPUTE(generate_args),
    OPTION_END,
};
const struct verb verb_generate = {
    .name = "generate",
    .summary = "text that goes on from a prompt, or from each prompt of a file",
    .example = "milora generate model/ --prompt 'Once upon a time' --max-new-tokens 100\n"
               "milora generate model/ --adapter adapter/ --template alpaca --prompts in.jsonl "
               "--out out.jsonl",
    .positionals = generate_positionals,
    .options = generate_options,
    .bytes = sizeof(struct generate_args),
    .run = run_generate,
};
