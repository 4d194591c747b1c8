/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_analyze.c - `analyze`: what is in the weights of a model (`spectrum`), and how much of its behaviour an
 * adapter changes (`forgetting`).  The other analyses of adapters are known by name, say that this version lacks them,
 * and exit 2. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "verbs.h"

struct analyze_args {
    const char *kind, *model, *targets, *layers, *output, *data, *dtype;
    struct rest adapters;
    int64_t rank, max_length, max_tokens;
    bool json, values;
};
enum { FORGETTING_MOST = 256 };
struct analyze_screen {
    bool json, started;
    double start;
};

static const char *const *choices_kind(void) {
    static const char *const names[] = {"forgetting", "interference", "subspace", "spectrum", NULL};
    return names;
}

/* ---- spectrum */

static void print_header(const char *first) {
    printf("%-38s %13s %9s %9s %11s %9s %9s %7s %9s %6s %6s %7s %9s\n", first, "shape", "sigma 1",
           "sigma r", "sigma k-r+1", "sigma k", "condition", "stable", "effective", "90 %", "99 %",
           "top r", "bottom r");
}

static void print_measures(const char *name, int64_t rows, int64_t cols,
                           const struct mil_spectrum_measures *m) {
    char shape[48], condition[16] = "-";
    snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64, rows, cols);
    if (isfinite(m->condition)) snprintf(condition, sizeof condition, "%.4g", m->condition);
    printf("%-38s %13s %9.4g %9.4g %11.4g %9.4g %9s %7.2f %9.1f %6.0f %6.0f %6.2f%% %8.3g%%\n",
           name, shape, m->sigma_max, m->sigma_top, m->sigma_bottom, m->sigma_min, condition,
           m->stable_rank, m->effective_rank, m->rank_90, m->rank_99, 100 * m->energy_top,
           100 * m->energy_bottom);
}

static void on_row(void *ctx, const struct mil_spectrum_row *row) {
    struct analyze_screen *screen = ctx;
    double elapsed = mil_clock() - screen->start;
    char left[32];
    screen_clear();
    if (!screen->json) {
        if (row->index == 0) print_header("module");
        print_measures(row->module, row->rows, row->cols, &row->measures);
        fflush(stdout);
    }
    if (row->index + 1 < row->total)
        screen_progress("module %zu of %zu, ETA %s", row->index + 1, row->total,
                        mil_format_seconds(left, elapsed * (1 - row->done) / row->done));
}

static void print_types(const mil_spectrum *s) {
    putchar('\n');
    print_header("mean over the layers");
    for (size_t i = 0; i < mil_spectrum_types(s); i++) {
        const struct mil_spectrum_type *t = mil_spectrum_type(s, i);
        char name[48];
        snprintf(name, sizeof name, "%s (%zu)", t->type, t->modules);
        print_measures(name, t->rows, t->cols, &t->mean);
    }
}

static enum mil_status print_result(const struct analyze_args *args, const mil_spectrum *s,
                                    struct mil_error *err) {
    char seconds[32];
    if (args->json) {
        struct mil_text text = {0};
        enum mil_status st = mil_spectrum_json(s, args->values, &text, err);
        if (st == MIL_OK) fwrite(text.data, 1, text.len, stdout);
        mil_text_release(&text);
        return st == MIL_OK ? cli_flush(err) : st;
    }
    print_types(s);
    printf("\n%zu matrices, r = %" PRId64 ", %s\n", mil_spectrum_rows(s), mil_spectrum_rank(s),
           mil_format_seconds(seconds, mil_spectrum_seconds(s)));
    if (args->output) printf("%s: spectrum.json, spectrum.svg\n", args->output);
    return MIL_OK;
}

static enum mil_status run_spectrum(const struct analyze_args *args, struct mil_error *err) {
    struct name_list targets;
    if (args->adapters.n)
        return cli_usage(err, "'%s': spectrum takes a model alone, no adapter",
                         args->adapters.items[0]);
    if (args->data || args->max_length || args->max_tokens || strcmp(args->dtype, "bf16") != 0)
        return cli_usage(err,
                         "--data, --max-length, --max-tokens and --dtype belong to forgetting");
    if (args->values && !args->json)
        return cli_usage(err,
                         "--values goes with --json; spectrum.json of --output has them always");
    enum mil_status st = cli_names("--target-modules", args->targets, &targets, err);
    if (st != MIL_OK) return st;
    struct mil_spectrum_options options = {.model = args->model,
                                           .rank = args->rank,
                                           .targets = targets.names,
                                           .n_targets = targets.n,
                                           .layers = args->layers,
                                           .out = args->output};
    struct analyze_screen screen = {.json = args->json, .start = mil_clock()};
    mil_spectrum *s = NULL;
    st = mil_spectrum_run(&options, on_row, &screen, &s, err);
    if (st == MIL_OK) st = print_result(args, s, err);
    mil_spectrum_free(&s);
    return st;
}

/* ---- forgetting */

static int on_tokens(void *ctx, const struct mil_eval_progress *p) {
    char left[32] = "?";
    (void)ctx;
    if (p->remaining >= 0) mil_format_seconds(left, p->remaining);
    screen_progress("%" PRId64 "/%" PRId64 " tokens | %.4f | ETA %s", p->done, p->total, p->value,
                    left);
    return !mil_stop_requested();
}

static json_t *forgetting_json(const struct analyze_args *args, const char *adapter,
                               const struct mil_forgetting *f) {
    return json_pack("{ss ss ss ss ss sI sI sf sf sf}", "analysis", "forgetting", "model",
                     args->model, "adapter", adapter, "data", args->data, "dtype", args->dtype,
                     "max_length", (json_int_t)f->window, "tokens", (json_int_t)f->tokens,
                     "forgetting_loss", f->forgetting_loss, "base_entropy", f->base_entropy,
                     "divergence", f->divergence);
}

/* One adapter: its object.  More: a list. */
static enum mil_status print_forgetting_json(const struct analyze_args *args,
                                             const struct mil_forgetting *f,
                                             struct mil_error *err) {
    if (args->adapters.n == 1)
        return cli_print_json(forgetting_json(args, args->adapters.items[0], f), err);
    json_t *list = json_array();
    for (size_t i = 0; i < args->adapters.n; i++) {
        json_t *row = forgetting_json(args, args->adapters.items[i], &f[i]);
        if (list && row && json_array_append(list, row) != 0) {
            json_decref(list);
            list = NULL;
        }
        json_decref(row);
    }
    return cli_print_json(list, err);
}

static void print_forgetting(const struct analyze_args *args, const struct mil_forgetting *f) {
    char tokens[32];
    int width = (int)strlen("adapter");
    for (size_t i = 0; i < args->adapters.n; i++) {
        int n = (int)strlen(args->adapters.items[i]);
        if (n > width && n <= 60) width = n;
    }
    printf("%-*s %16s %13s %11s\n", width, "adapter", "forgetting loss", "base entropy",
           "divergence");
    for (size_t i = 0; i < args->adapters.n; i++)
        printf("%-*s %16.6f %13.6f %11.6f\n", width, args->adapters.items[i], f[i].forgetting_loss,
               f[i].base_entropy, f[i].divergence);
    printf("\nmeans in nats over the first %s tokens of %s, windows of %" PRId64 "\n",
           cli_grouped(tokens, f->tokens), args->data, f->window);
}

static enum mil_status run_forgetting(const struct analyze_args *args, struct mil_error *err) {
    static struct mil_forgetting results[FORGETTING_MOST];
    if (args->adapters.n == 0)
        return cli_usage(err, "ADAPTER is missing; 'milora analyze --help' shows an example");
    if (args->adapters.n > FORGETTING_MOST)
        return cli_usage(err, "%zu adapters; at most %d at once", args->adapters.n,
                         FORGETTING_MOST);
    if (!args->data) return cli_usage(err, "--data FILE is missing: the text to compare on");
    if (args->rank || args->layers || args->output || args->values ||
        strcmp(args->targets, "all-linear") != 0)
        return cli_usage(
            err, "--rank, --layers, --target-modules, --output and --values belong to spectrum");
    struct mil_forgetting_options options = {.model = args->model,
                                             .adapters = (const char *const *)args->adapters.items,
                                             .n_adapters = args->adapters.n,
                                             .data = args->data,
                                             .max_length = args->max_length,
                                             .max_tokens = args->max_tokens,
                                             .compute = cli_compute(args->dtype)};
    cli_catch_stop();
    enum mil_status st = mil_forgetting_run(&options, on_tokens, NULL, results, err);
    screen_clear();
    if (st != MIL_OK) return st;
    if (args->json) return print_forgetting_json(args, results, err);
    print_forgetting(args, results);
    return cli_flush(err);
}

/* ---- the verb */

static enum mil_status run_analyze(const void *p, struct mil_error *err) {
    const struct analyze_args *args = p;
    if (strcmp(args->kind, "spectrum") == 0) return run_spectrum(args, err);
    if (strcmp(args->kind, "forgetting") == 0) return run_forgetting(args, err);
    return cli_fail(err, MIL_UNSUPPORTED,
                    "the analysis '%s' is not part of version %s; spectrum and forgetting are",
                    args->kind, mil_version());
}

static const struct option analyze_positionals[] = {
    {.name = "ANALYSIS",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, kind),
     .help = "which one; interference and subspace are not part of this version",
     .choices = choices_kind,
     .required = true},
    POSITIONAL_MODEL(analyze_args),
    {.name = "ADAPTER...",
     .type = OPTION_REST,
     .offset = offsetof(struct analyze_args, adapters),
     .help = "forgetting: adapter directories, or models with MODEL's vocabulary",
     .files = FILES_DIRS},
    OPTION_END,
};
static const struct option analyze_options[] = {
    {.name = "rank",
     .type = OPTION_INT,
     .offset = offsetof(struct analyze_args, rank),
     .value = "R",
     .help = "spectrum: r of the top and the bottom; default 32, or the shortest side where that "
             "is less",
     .min = 1,
     .max = 131072},
    {.name = "target-modules",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, targets),
     .value = "LIST",
     .fallback = "all-linear",
     .help = "spectrum: module names separated by commas, or all-linear"},
    {.name = "layers",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, layers),
     .value = "LIST",
     .help = "spectrum: layers and ranges of them, such as 0-3,8; all of them by default"},
    {.name = "output",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, output),
     .value = "DIR",
     .help = "spectrum: make this directory with spectrum.json and spectrum.svg; it must not exist",
     .files = FILES_DIRS},
    OPTION_JSON(analyze_args),
    {.name = "values",
     .type = OPTION_FLAG,
     .offset = offsetof(struct analyze_args, values),
     .help = "spectrum, with --json: every singular value of every module"},
    {.name = "data",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, data),
     .value = "FILE",
     .help = "forgetting: a text file (.json, .jsonl: rows with text)",
     .files = FILES_ANY},
    {.name = "max-length",
     .type = OPTION_INT,
     .offset = offsetof(struct analyze_args, max_length),
     .value = "N",
     .help = "forgetting: tokens of a window; default 1024, or MODEL's positions where less",
     .min = 1,
     .max = 1e9},
    {.name = "max-tokens",
     .type = OPTION_INT,
     .offset = offsetof(struct analyze_args, max_tokens),
     .value = "N",
     .help = "forgetting: the first N tokens of the data; all of them by default",
     .min = 1,
     .max = 1e15},
    {.name = "dtype",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, dtype),
     .value = "TYPE",
     .fallback = "bf16",
     .help = "forgetting: compute type of matrix products",
     .choices = choices_compute},
    OPTION_END,
};
const struct verb verb_analyze = {
    .name = "analyze",
    .summary = "the singular values of a model's weights; what adapters make it forget",
    .about =
        "spectrum prints a row per module, and the means over the layers per module type.  The\n"
        "singular values are sigma 1 >= ... >= sigma k, the adapter's rank is r.\n"
        "sigma k-r+1    the largest of the r smallest, those that the method milora takes\n"
        "condition      sigma 1 / sigma k, '-' where the matrix is singular\n"
        "stable         rank: sum of sigma^2 / sigma 1^2\n"
        "effective      rank: exp of the entropy of sigma i / sum of sigma (Roy, Vetterli 2007)\n"
        "90 %, 99 %     how many of the largest hold that share of the sum of sigma^2\n"
        "top, bottom r  share of the sum of sigma^2 in the r largest and in the r smallest\n"
        "\n"
        "forgetting compares the next-token distributions of MODEL with those of MODEL and each "
        "ADAPTER\n"
        "on a text (Kalajdzievski 2024), in nats a token:\n"
        "forgetting loss  cross-entropy of the changed model's distributions with the base's\n"
        "base entropy     what that is where nothing has changed\n"
        "divergence       the difference of the two",
    .example =
        "milora analyze spectrum model/ --rank 32 --output spectrum/\n"
        "milora analyze spectrum model.gguf --layers 0-3 --target-modules q_proj,v_proj\n"
        "milora analyze forgetting model/ adapter/ --data wikitext103_test.txt --max-tokens 8192",
    .positionals = analyze_positionals,
    .options = analyze_options,
    .bytes = sizeof(struct analyze_args),
    .run = run_analyze,
};
