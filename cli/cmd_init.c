/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_init.c - `init`: an adapter at step 0, with the table of its modules. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "init_options.h"
#include "verbs.h"

struct init_args {
    const char *model, *out, *method, *targets, *excluded, *layers, *ranks, *alphas, *svd_cache;
    const char *dataset, *template_name, *dtype;
    int64_t rank, seed, batches, max_length;
    double alpha, dropout, cache_limit, keep_after;
    bool use_rslora, use_dora, json;
};
/* What the lists among the options stand for. */
struct init_lists {
    struct name_list targets, excluded;
    struct layer_list layers;
    struct pattern_list ranks, alphas;
};
struct init_screen {
    bool json;
    json_t *rows; /* in canonical order */
};

static void print_head(void) {
    printf("%-40s %13s %5s %9s %9s %24s %10s %8s  %s\n", "module", "shape", "rank", "seconds",
           "residual", "sigma of the adapter", "sigma max", "cut", "by");
}

static void print_row(const struct mil_init_row *r) {
    char shape[40], range[40] = "-", residual[16] = "-", cut[16] = "-";
    snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64, r->rows, r->cols);
    /* Methods without a factorisation have no singular values and no residual. */
    if (r->served_by) {
        snprintf(range, sizeof range, "%.4g .. %.4g", r->sigma_first, r->sigma_last);
        snprintf(residual, sizeof residual, "%.1e", r->residual);
        snprintf(cut, sizeof cut, r->cut > 0 ? "%.1e" : "proved", r->cut);
    }
    printf("%-40s %13s %5" PRId64 " %9.3f %9s %24s %10.4g %8s  %s\n", r->module, shape, r->rank,
           r->seconds, residual, range, r->sigma_max, cut, r->served_by ? r->served_by : "-");
}

static json_t *json_row(const struct mil_init_row *r) {
    return json_pack("{ss sI sI sI sf sf sf sf sf sf sf ss}", "module", r->module, "rows",
                     (json_int_t)r->rows, "cols", (json_int_t)r->cols, "rank", (json_int_t)r->rank,
                     "seconds", r->seconds, "residual", r->residual, "orthogonality",
                     r->orthogonality, "cut", r->cut, "sigma_first", r->sigma_first, "sigma_last",
                     r->sigma_last, "sigma_max", r->sigma_max, "served_by",
                     r->served_by ? r->served_by : "-");
}

static void on_row(void *ctx, const struct mil_init_row *r) {
    struct init_screen *screen = ctx;
    char left[32];
    screen_clear();
    if (screen->json) {
        while (json_array_size(screen->rows) < r->total &&
               json_array_append_new(screen->rows, json_null()) == 0) {
        }
        json_array_set_new(screen->rows, r->position, json_row(r));
    } else {
        if (r->index == 0) print_head();
        print_row(r);
        fflush(stdout);
    }
    size_t done = r->index + 1;
    if (done < r->total && r->left >= 0)
        screen_progress("module %zu of %zu, ETA %s", done, r->total,
                        mil_format_seconds(left, r->left));
    else if (done < r->total)
        screen_progress("module %zu of %zu", done, r->total);
}

static double trainable_percent(const struct mil_adapter_result *r) {
    return 100.0 * (double)r->trainable / (double)(r->parameters + r->trainable);
}

static enum mil_status print_json_result(const struct init_args *args, struct init_screen *screen,
                                         const struct mil_adapter_result *r,
                                         struct mil_error *err) {
    json_t *rows = screen->rows, *served = json_object();
    screen->rows = NULL;
    for (size_t i = 0; i < r->n_served; i++)
        json_object_set_new(served, r->served[i].name,
                            json_integer((json_int_t)r->served[i].modules));
    return cli_print_json(
        json_pack("{ss ss sI sf sI sI sf sI sf sf sI sI sI so so}", "adapter", args->out, "method",
                  args->method, "rank", (json_int_t)r->rank, "alpha", r->alpha, "trainable",
                  (json_int_t)r->trainable, "parameters", (json_int_t)r->parameters,
                  "trainable_percent", trainable_percent(r), "bytes", (json_int_t)r->bytes,
                  "seconds", r->seconds, "largest_residual", r->largest_residual, "cached",
                  (json_int_t)r->cached, "peak_rss_bytes", (json_int_t)r->peak_rss_bytes,
                  "scratch_bytes", (json_int_t)r->scratch_bytes, "served_by", served, "modules",
                  rows),
        err);
}

static void print_result(const struct init_args *args, const struct mil_adapter_result *r) {
    char bytes[32], seconds[32], scratch[32];
    printf("%zu modules, method %s, rank %" PRId64 ", alpha %g, largest residual %.1e, %s",
           r->modules, args->method, r->rank, r->alpha, r->largest_residual,
           mil_format_seconds(seconds, r->seconds));
    if (r->cached) printf(", %zu from the cache", r->cached);
    putchar('\n');
    for (size_t i = 0; i < r->n_served; i++)
        printf("%s%s %zu%s", i ? ", " : "served by: ", r->served[i].name, r->served[i].modules,
               i + 1 == r->n_served ? "\n" : "");
    printf("peak memory: %s, of it decompositions %s\n", mil_format_bytes(bytes, r->peak_rss_bytes),
           mil_format_bytes(scratch, r->scratch_bytes));
    cli_print_trainable(stdout, r->trainable, r->parameters + r->trainable);
    printf("%s: %s\n", args->out, mil_format_bytes(bytes, r->bytes));
}

static const char *const *choices_methods(void) {
    static const char *names[64];
    struct mil_method_info info;
    size_t n = 0;
    for (size_t i = 0; n < 63 && mil_method(i, &info); i++)
        if (info.adapter && n < 62) names[n++] = info.name;
    names[n++] = "all";
    return names;
}

static enum mil_status read_lists(const struct init_args *args, struct init_lists *l,
                                  struct mil_error *err) {
    enum mil_status st = cli_names("--target-modules", args->targets, &l->targets, err);
    if (st == MIL_OK && args->excluded)
        st = cli_names("--exclude-modules", args->excluded, &l->excluded, err);
    if (st == MIL_OK) st = init_layers("--layers", args->layers, &l->layers, err);
    if (st == MIL_OK) st = init_patterns("--rank-pattern", args->ranks, &l->ranks, err);
    if (st == MIL_OK) st = init_patterns("--alpha-pattern", args->alphas, &l->alphas, err);
    return st;
}

static struct mil_adapter_options options_from(const struct init_args *args,
                                               const struct init_lists *l) {
    return (struct mil_adapter_options){
        .model = args->model,
        .out = args->out,
        .method = args->method,
        .rank = args->rank,
        .alpha = args->alpha,
        .dropout = args->dropout,
        .targets = l->targets.names,
        .n_targets = l->targets.n,
        .excluded = l->excluded.names,
        .n_excluded = l->excluded.n,
        .layers = l->layers.items,
        .n_layers = l->layers.n,
        .ranks = l->ranks.items,
        .n_ranks = l->ranks.n,
        .alphas = l->alphas.items,
        .n_alphas = l->alphas.n,
        .use_rslora = args->use_rslora,
        .use_dora = args->use_dora,
        .seed = (uint64_t)args->seed,
        .svd_cache = args->svd_cache,
        .svd_cache_limit = (uint64_t)(args->cache_limit * 1073741824.0),
        .keep_after = args->keep_after > 0 ? args->keep_after : -1,
        .dataset = args->dataset,
        .template_name = args->template_name,
        .compute_dtype = args->dtype,
        .batches = args->batches,
        .max_length = args->max_length,
    };
}

static enum mil_status make_one(const struct init_args *args,
                                const struct mil_adapter_options *options, struct mil_error *err) {
    if (!args->out)
        return cli_usage(err, "OUT is missing: the adapter directory to make (--method all can do "
                              "without)");
    struct init_screen screen = {args->json, args->json ? json_array() : NULL};
    struct mil_adapter_result result;
    screen_progress("reading %s", args->model);
    enum mil_status st = mil_adapter_init(options, on_row, &screen, &result, err);
    screen_clear();
    if (st == MIL_OK && args->json) st = print_json_result(args, &screen, &result, err);
    if (st == MIL_OK && !args->json) print_result(args, &result);
    json_decref(screen.rows);
    return st;
}

static enum mil_status run_init(const void *p, struct mil_error *err) {
    const struct init_args *args = p;
    static struct init_lists lists;
    enum mil_status st = read_lists(args, &lists, err);
    if (st != MIL_OK) return st;
    struct mil_adapter_options options = options_from(args, &lists);
    cli_catch_stop();
    if (strcmp(args->method, "all") == 0) return init_compare(&options, args->json, err);
    return make_one(args, &options, err);
}

static const struct option init_positionals[] = {
    POSITIONAL_MODEL(init_args),
    {.name = "OUT",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, out),
     .help = "the adapter directory to make; it must not exist (--method all: optional)",
     .files = FILES_DIRS},
    OPTION_END,
};
static const struct option init_options[] = {
    {.name = "method",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, method),
     .value = "M",
     .fallback = "milora",
     .help = "how the factors start; all: a table of what each method starts from",
     .choices = choices_methods},
    {.name = "rank",
     .type = OPTION_INT,
     .offset = offsetof(struct init_args, rank),
     .value = "R",
     .fallback = "32",
     .help = "rank of each adapter",
     .min = 1,
     .max = 131072},
    {.name = "alpha",
     .type = OPTION_REAL,
     .offset = offsetof(struct init_args, alpha),
     .value = "A",
     .help = "lora_alpha; the scaling is alpha / rank (default: the method's, rank for milora)",
     .min = 1e-6,
     .max = 1e6},
    {.name = "target-modules",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, targets),
     .value = "LIST",
     .fallback = "q_proj,k_proj,v_proj,up_proj,down_proj",
     .help = "module names separated by commas, or all-linear"},
    {.name = "exclude-modules",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, excluded),
     .value = "LIST",
     .help = "of these not: names or paths separated by commas"},
    {.name = "layers",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, layers),
     .value = "LIST",
     .help = "layers to adapt, as 0,1,8-11 (default all)"},
    {.name = "rank-pattern",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, ranks),
     .value = "LIST",
     .help = "rank by module, as q_proj=8,layers.0.mlp.*=4; the first pattern that matches counts"},
    {.name = "alpha-pattern",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, alphas),
     .value = "LIST",
     .help = "lora_alpha by module, likewise"},
    {.name = "use-rslora",
     .type = OPTION_FLAG,
     .offset = offsetof(struct init_args, use_rslora),
     .help = "scaling alpha / sqrt(rank)"},
    {.name = "use-dora",
     .type = OPTION_FLAG,
     .offset = offsetof(struct init_args, use_dora),
     .help = "with a magnitude for each row of the weight"},
    {.name = "dropout",
     .type = OPTION_REAL,
     .offset = offsetof(struct init_args, dropout),
     .value = "P",
     .fallback = "0",
     .help = "lora_dropout recorded in the adapter's configuration",
     .min = 0,
     .max = 0.99},
    {.name = "seed",
     .type = OPTION_INT,
     .offset = offsetof(struct init_args, seed),
     .value = "S",
     .fallback = "42",
     .help = "of the random parts (lora's A, the choice of method random)",
     .min = 0,
     .max = 9e18},
    {.name = "svd-cache",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, svd_cache),
     .value = "DIR",
     .help = "keep decompositions here by the content of the weights, and take them from here",
     .files = FILES_DIRS},
    {.name = "svd-cache-limit",
     .type = OPTION_REAL,
     .offset = offsetof(struct init_args, cache_limit),
     .value = "GIB",
     .fallback = "32",
     .help = "size that the cache may grow to; the least recently used go first",
     .min = 1e-6,
     .max = 1e6},
    {.name = "keep-after",
     .type = OPTION_REAL,
     .offset = offsetof(struct init_args, keep_after),
     .value = "S",
     .fallback = "10",
     .help = "seconds of decomposing (all threads together) after which OUT.partial is made",
     .min = 0,
     .max = 1e6},
    {.name = "dataset",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, dataset),
     .value = "FILE",
     .help = "lora_ga: the data whose loss's gradient the factors start from",
     .files = FILES_ANY},
    {.name = "template",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, template_name),
     .value = "T",
     .fallback = "alpaca",
     .help = "prompt template of the data set"},
    {.name = "batches",
     .type = OPTION_INT,
     .offset = offsetof(struct init_args, batches),
     .value = "N",
     .fallback = "8",
     .help = "take its first N times 16 samples, in the order that training has",
     .min = 1,
     .max = 1048576},
    {.name = "max-length",
     .type = OPTION_INT,
     .offset = offsetof(struct init_args, max_length),
     .value = "L",
     .fallback = "2048",
     .help = "tokens of a sample that are used",
     .min = 1,
     .max = 1048576},
    {.name = "dtype",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, dtype),
     .value = "TYPE",
     .fallback = "bf16",
     .help = "compute type of the model on the data set",
     .choices = choices_compute},
    OPTION_JSON(init_args),
    OPTION_END,
};
const struct verb verb_init = {
    .name = "init",
    .summary = "an adapter at step 0, from the singular value decomposition of the weights",
    .about =
        "Prints a row per module as it is finished: shape, seconds, residual of the decomposition\n"
        "(largest ||W v - s u|| over the largest singular value), the singular values that the\n"
        "adapter takes, the largest one of the matrix, whether it is proved that none was missed,\n"
        "and the method that served.  Memory is bounded: weights are read where they are mapped.\n"
        "\n"
        "A run that was killed or stopped goes on when the same command is given again: finished\n"
        "modules wait in OUT.partial (in --svd-cache DIR, if given), which is removed at the end.\n"
        "\n"
        "--method all prints one row a method: seconds; s; ||s B0 A0|| / ||W||; ||A0||; ||B0||; "
        "the\n"
        "shares of W's energy (sum of sigma^2) in B0's columns and A0's rows; mean squared cosines "
        "of\n"
        "these spaces to W's r first (top) and last (bottom) singular vectors; the method's "
        "learning\n"
        "rate and the change of W in Adam's first update at it, relative to W.  With OUT every "
        "adapter\n"
        "is written to OUT/<method>; --json has the modules; lora_ga's row takes a --dataset.",
    .example = "milora init model/ adapter/ --method milora --rank 32\n"
               "milora init model/ adapter/ --method lora_ga --dataset train.jsonl\n"
               "milora init model/ --method all --rank 32 --svd-cache cache/",
    .positionals = init_positionals,
    .options = init_options,
    .bytes = sizeof(struct init_args),
    .run = run_init,
};
