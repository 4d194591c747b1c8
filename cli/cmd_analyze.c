/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_analyze.c - `analyze`: what is in the weights of a model.  `spectrum` is here; the analyses of
 * an adapter are known by name, say that this version lacks them, and exit 2. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "verbs.h"

struct analyze_args {
    const char *kind, *model, *targets, *layers, *output, *data;
    struct rest adapters;
    int64_t rank, max_length, max_tokens;
    bool json, values;
};
struct analyze_screen {
    bool json, started;
    double start;
};

static const char *const *choices_kind(void) {
    static const char *const names[] = {"forgetting", "interference", "subspace", "spectrum", NULL};
    return names;
}

/* ---- the table */

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

/* ---- the verb */

static enum mil_status run_spectrum(const struct analyze_args *args, struct mil_error *err) {
    struct name_list targets;
    if (args->adapters.n)
        return cli_usage(err, "'%s': spectrum takes a model alone, no adapter",
                         args->adapters.items[0]);
    if (args->data || args->max_length || args->max_tokens)
        return cli_usage(err, "--data, --max-length and --max-tokens belong to forgetting");
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

static enum mil_status run_analyze(const void *p, struct mil_error *err) {
    const struct analyze_args *args = p;
    if (strcmp(args->kind, "spectrum") == 0) return run_spectrum(args, err);
    return cli_fail(
        err, MIL_UNSUPPORTED,
        "the analysis '%s' is not part of version %s; 'milora analyze spectrum' is, and "
        "'milora eval --task perplexity' measures forgetting",
        args->kind, mil_version());
}

static const struct option analyze_positionals[] = {
    {.name = "ANALYSIS",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, kind),
     .help = "which one; the first three are not part of this version",
     .choices = choices_kind,
     .required = true},
    POSITIONAL_MODEL(analyze_args),
    {.name = "ADAPTER...",
     .type = OPTION_REST,
     .offset = offsetof(struct analyze_args, adapters),
     .help = "adapter directories, for the analyses of adapters",
     .files = FILES_DIRS},
    OPTION_END,
};
static const struct option analyze_options[] = {
    {.name = "rank",
     .type = OPTION_INT,
     .offset = offsetof(struct analyze_args, rank),
     .value = "R",
     .help = "r of the top and the bottom; default 32, or the shortest side where that is less",
     .min = 1,
     .max = 131072},
    {.name = "target-modules",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, targets),
     .value = "LIST",
     .fallback = "all-linear",
     .help = "module names separated by commas, or all-linear"},
    {.name = "layers",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, layers),
     .value = "LIST",
     .help = "layers and ranges of them, such as 0-3,8; all of them by default"},
    {.name = "output",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, output),
     .value = "DIR",
     .help = "make this directory with spectrum.json and spectrum.svg; it must not exist",
     .files = FILES_DIRS},
    OPTION_JSON(analyze_args),
    {.name = "values",
     .type = OPTION_FLAG,
     .offset = offsetof(struct analyze_args, values),
     .help = "with --json: every singular value of every module"},
    {.name = "data",
     .type = OPTION_TEXT,
     .offset = offsetof(struct analyze_args, data),
     .value = "FILE",
     .help = "forgetting: a text file (not part of this version)",
     .files = FILES_ANY},
    {.name = "max-length",
     .type = OPTION_INT,
     .offset = offsetof(struct analyze_args, max_length),
     .value = "N",
     .help = "forgetting: tokens of a window (not part of this version)",
     .min = 1,
     .max = 1e9},
    {.name = "max-tokens",
     .type = OPTION_INT,
     .offset = offsetof(struct analyze_args, max_tokens),
     .value = "N",
     .help = "forgetting: the first N tokens of the data (not part of this version)",
     .min = 1,
     .max = 1e15},
    OPTION_END,
};
const struct verb verb_analyze = {
    .name = "analyze",
    .summary = "the singular values of a model's weights, as numbers and as a picture",
    .about =
        "spectrum prints a row per module, and the means over the layers per module type.  The\n"
        "singular values are sigma 1 >= ... >= sigma k, the adapter's rank is r.\n"
        "sigma k-r+1    the largest of the r smallest, those that the method milora takes\n"
        "condition      sigma 1 / sigma k, '-' where the matrix is singular\n"
        "stable         rank: sum of sigma^2 / sigma 1^2\n"
        "effective      rank: exp of the entropy of sigma i / sum of sigma (Roy, Vetterli 2007)\n"
        "90 %, 99 %     how many of the largest hold that share of the sum of sigma^2\n"
        "top, bottom r  share of the sum of sigma^2 in the r largest and in the r smallest",
    .example = "milora analyze spectrum model/ --rank 32 --output spectrum/\n"
               "milora analyze spectrum model.gguf --layers 0-3 --target-modules q_proj,v_proj",
    .positionals = analyze_positionals,
    .options = analyze_options,
    .bytes = sizeof(struct analyze_args),
    .run = run_analyze,
};
