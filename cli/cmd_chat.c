/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_chat.c - `chat`: a conversation, one line a turn, replies streamed.
 *
 * From a terminal there is a prompt and Ctrl-C cuts a reply short; from a pipe each line is a turn
 * and standard output gets the replies only. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "verbs.h"

struct chat_args {
    const char *model, *adapter, *template_name, *system, *dtype;
    int64_t max_new_tokens, seed, context;
    double temperature, top_p;
};

static volatile sig_atomic_t interrupted_;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted_ = 1;
}

/* Without SA_RESTART: a Ctrl-C while waiting for a line ends the wait. */
static void catch_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

static int on_piece(void *ctx, size_t prompt, const char *piece, size_t n, int32_t id) {
    (void)ctx;
    (void)prompt;
    (void)id;
    fwrite(piece, 1, n, stdout);
    return fflush(stdout) == 0 && !ferror(stdout) && !interrupted_;
}

/* One line without its newline; false at the end of the input. */
static bool read_line(struct mil_text *line, struct mil_error *err, enum mil_status *st) {
    char buffer[4096];
    mil_text_reset(line);
    while (fgets(buffer, sizeof buffer, stdin)) {
        size_t n = strlen(buffer);
        bool whole = n && buffer[n - 1] == '\n';
        *st = mil_text_add(line, buffer, whole ? n - 1 : n, err);
        if (*st != MIL_OK) return false;
        if (whole) return true;
    }
    return line->len > 0;
}

static enum mil_status say(mil_chat *chat, const char *text, bool terminal, struct mil_error *err) {
    interrupted_ = 0;
    enum mil_status st = mil_chat_say(chat, text, on_piece, NULL, NULL, err);
    interrupted_ = 0;
    if (st == MIL_OK) {
        putchar('\n');
        return cli_flush(err);
    }
    if (st != MIL_INPUT || !terminal) return st;
    fprintf(stderr, "%s (/reset starts anew)\n", err->message);
    return MIL_OK;
}

static enum mil_status converse(mil_chat *chat, struct mil_error *err) {
    bool terminal = isatty(STDIN_FILENO);
    struct mil_text line = {0};
    enum mil_status st = MIL_OK;
    if (terminal)
        screen_line("template %s, %lld tokens of context; /reset, /exit, Ctrl-C cuts a reply short",
                    mil_chat_template(chat), (long long)mil_chat_context(chat));
    while (st == MIL_OK) {
        if (terminal) fputs("> ", stderr);
        if (!read_line(&line, err, &st) || st != MIL_OK) break;
        if (line.len == 0 || !line.data) continue;
        if (strcmp(line.data, "/exit") == 0 || strcmp(line.data, "/quit") == 0) break;
        if (strcmp(line.data, "/reset") == 0)
            mil_chat_reset(chat);
        else if (line.data[0] == '/' && terminal)
            fprintf(stderr, "there are /reset and /exit\n");
        else
            st = say(chat, line.data, terminal, err);
    }
    if (terminal && st == MIL_OK) fputc('\n', stderr);
    mil_text_release(&line);
    return st;
}

static enum mil_status run_chat(const void *p, struct mil_error *err) {
    const struct chat_args *args = p;
    struct mil_model_options model_options = {.path = args->model,
                                              .adapter = args->adapter,
                                              .compute = cli_compute(args->dtype),
                                              .max_positions = args->context};
    struct mil_chat_options options = {.template_name = args->template_name,
                                       .system = args->system,
                                       .max_new_tokens = args->max_new_tokens,
                                       .temperature = args->temperature,
                                       .top_p = args->top_p,
                                       .seed = (uint64_t)args->seed,
                                       .context = args->context};
    mil_model *m = NULL;
    mil_chat *chat = NULL;
    enum mil_status st = mil_model_open(&model_options, &m, err);
    if (st == MIL_OK) st = mil_chat_new(m, &options, &chat, err);
    if (st == MIL_OK) {
        screen_line("%s", mil_model_backend(m));
        catch_interrupt();
        st = converse(chat, err);
    }
    mil_chat_free(&chat);
    mil_model_free(&m);
    return st;
}

static const struct option chat_positionals[] = {POSITIONAL_MODEL(chat_args), OPTION_END};
static const struct option chat_options[] = {
    OPTION_ADAPTER(chat_args),
    {.name = "template",
     .type = OPTION_TEXT,
     .offset = offsetof(struct chat_args, template_name),
     .value = "NAME",
     .help = "chat template, by default the model's own",
     .choices = mil_template_names},
    {.name = "system",
     .type = OPTION_TEXT,
     .offset = offsetof(struct chat_args, system),
     .value = "S",
     .help = "system message"},
    {.name = "max-new-tokens",
     .type = OPTION_INT,
     .offset = offsetof(struct chat_args, max_new_tokens),
     .value = "N",
     .fallback = "512",
     .help = "longest reply",
     .min = 1,
     .max = 1e7},
    {.name = "temperature",
     .type = OPTION_REAL,
     .offset = offsetof(struct chat_args, temperature),
     .value = "T",
     .fallback = "0",
     .help = "0: the likeliest token; above: sampled",
     .min = 0,
     .max = 100},
    {.name = "top-p",
     .type = OPTION_REAL,
     .offset = offsetof(struct chat_args, top_p),
     .value = "P",
     .fallback = "1",
     .help = "sample from the likeliest tokens that together have this probability",
     .min = 0,
     .max = 1},
    {.name = "seed",
     .type = OPTION_INT,
     .offset = offsetof(struct chat_args, seed),
     .value = "S",
     .fallback = "42",
     .help = "of the sampling",
     .min = 0,
     .max = 9e18},
    {.name = "context",
     .type = OPTION_INT,
     .offset = offsetof(struct chat_args, context),
     .value = "N",
     .fallback = "0",
     .help = "tokens of conversation kept; 0: the model's own limit, at most 8192",
     .min = 0,
     .max = 1 << 24},
    OPTION_COMPUTE(chat_args),
    OPTION_END,
};
const struct verb verb_chat = {
    .name = "chat",
    .summary = "a conversation with the model, in its chat template, streamed",
    .about = "A line is a turn. /reset forgets the conversation, /exit (or the end of the input)\n"
             "leaves. From a pipe, standard output gets the replies only.",
    .example = "milora chat model/ --adapter adapter/ --system 'Be brief.'",
    .positionals = chat_positionals,
    .options = chat_options,
    .bytes = sizeof(struct chat_args),
    .run = run_chat,
};
