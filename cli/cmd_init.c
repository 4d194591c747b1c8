/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_init.c - `init`: an adapter at step 0, with the table of its modules. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "verbs.h"

struct init_args {
    const char *model, *out, *method, *targets, *svd_cache;
    int64_t rank, seed;
    double alpha, dropout;
    bool json;
};
struct init_screen {
    bool json;
    json_t *rows;
    double start;
};

/* "a,b,c" -> names inside buffer. */
static size_t split(const char *list, char *buffer, size_t cap, const char **names, size_t max) {
    size_t n = 0;
    snprintf(buffer, cap, "%s", list);
    for (char *s = buffer; *s && n < max;) {
        s += strspn(s, ", ");
        size_t k = strcspn(s, ", ");
        if (k == 0) break;
        names[n++] = s;
        s += k;
        if (*s) *s++ = '\0';
    }
    return n;
}

static void print_row(const struct mil_init_row *r) {
    char shape[40], range[40] = "-", residual[16] = "-";
    snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64, r->rows, r->cols);
    /* Methods without a factorisation have no singular values and no residual. */
    if (r->sigma_max > 0) {
        snprintf(range, sizeof range, "%.4g .. %.4g", r->sigma_first, r->sigma_last);
        snprintf(residual, sizeof residual, "%.1e", r->residual);
    }
    printf("%-40s %13s %5" PRId64 " %9.3f %9s %24s %10.4g  %s\n", r->module, shape, r->rank,
           r->seconds, residual, range, r->sigma_max, r->served_by ? r->served_by : "-");
}

static void on_row(void *ctx, const struct mil_init_row *r) {
    struct init_screen *screen = ctx;
    double elapsed = mil_clock() - screen->start;
    char left[32];
    screen_clear();
    if (screen->json) {
        json_array_append_new(screen->rows,
                              json_pack("{ss sI sI sI sf sf sf sf sf ss}", "module", r->module,
                                        "rows", (json_int_t)r->rows, "cols", (json_int_t)r->cols,
                                        "rank", (json_int_t)r->rank, "seconds", r->seconds,
                                        "residual", r->residual, "sigma_first", r->sigma_first,
                                        "sigma_last", r->sigma_last, "sigma_max", r->sigma_max,
                                        "served_by", r->served_by ? r->served_by : "-"));
    } else {
        if (r->index == 0)
            printf("%-40s %13s %5s %9s %9s %24s %10s  %s\n", "module", "shape", "rank", "seconds",
                   "residual", "sigma of the adapter", "sigma max", "by");
        print_row(r);
        fflush(stdout);
    }
    size_t done = r->index + 1;
    if (done < r->total)
        screen_progress(
            "module %zu of %zu, ETA %s", done, r->total,
            mil_format_seconds(left, elapsed / (double)done * (double)(r->total - done)));
}

static enum mil_status print_result(const struct init_args *args, struct init_screen *screen,
                                    const struct mil_adapter_result *r, struct mil_error *err) {
    double percent = 100.0 * (double)r->trainable / (double)(r->parameters + r->trainable);
    if (screen->json) {
        json_t *rows = screen->rows;
        screen->rows = NULL;
        return cli_print_json(
            json_pack("{ss ss sI sf sI sI sf sI sf sf sb so}", "adapter", args->out, "method",
                      args->method, "rank", (json_int_t)r->rank, "alpha", r->alpha, "trainable",
                      (json_int_t)r->trainable, "parameters", (json_int_t)r->parameters,
                      "trainable_percent", percent, "bytes", (json_int_t)r->bytes, "seconds",
                      r->seconds, "largest_residual", r->largest_residual, "cached", r->cached,
                      "modules", rows),
            err);
    }
    char bytes[32], seconds[32];
    printf("%zu modules, method %s, rank %" PRId64 ", alpha %g, largest residual %.1e, %s%s\n",
           r->modules, args->method, r->rank, r->alpha, r->largest_residual,
           mil_format_seconds(seconds, r->seconds), r->cached ? " (from the cache)" : "");
    cli_print_trainable(stdout, r->trainable, r->parameters + r->trainable);
    printf("%s: %s\n", args->out, mil_format_bytes(bytes, r->bytes));
    return MIL_OK;
}

static const char *const *choices_methods(void) {
    static const char *names[64];
    struct mil_method_info info;
    size_t n = 0;
    for (size_t i = 0; n < 63 && mil_method(i, &info); i++)
        if (info.adapter) names[n++] = info.name;
    return names;
}

static enum mil_status run_init(const void *p, struct mil_error *err) {
    const struct init_args *args = p;
    char buffer[4096];
    const char *names[128];
    if (strlen(args->targets) >= sizeof buffer)
        return cli_usage(err, "--target-modules: more than %zu bytes", sizeof buffer - 1);
    size_t n = split(args->targets, buffer, sizeof buffer, names, 128);
    if (n == 0) return cli_usage(err, "--target-modules '%s': no module named", args->targets);
    struct mil_adapter_options options = {.model = args->model,
                                          .out = args->out,
                                          .method = args->method,
                                          .rank = args->rank,
                                          .alpha = args->alpha,
                                          .dropout = args->dropout,
                                          .targets = names,
                                          .n_targets = n,
                                          .seed = (uint64_t)args->seed,
                                          .svd_cache = args->svd_cache};
    struct init_screen screen = {args->json, args->json ? json_array() : NULL, mil_clock()};
    struct mil_adapter_result result;
    enum mil_status st = mil_adapter_init(&options, on_row, &screen, &result, err);
    if (st == MIL_OK) st = print_result(args, &screen, &result, err);
    json_decref(screen.rows);
    return st;
}

static const struct option init_positionals[] = {
    POSITIONAL_MODEL(init_args),
    {.name = "OUT",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, out),
     .help = "the adapter directory to make; it must not exist",
     .files = FILES_DIRS,
     .required = true},
    OPTION_END,
};
static const struct option init_options[] = {
    {.name = "method",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, method),
     .value = "M",
     .fallback = "milora",
     .help = "how the factors start",
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
     .help = "lora_alpha; the scaling is alpha / rank (default rank, for lora 2 rank)",
     .min = 1e-6,
     .max = 1e6},
    {.name = "target-modules",
     .type = OPTION_TEXT,
     .offset = offsetof(struct init_args, targets),
     .value = "LIST",
     .fallback = "q_proj,k_proj,v_proj,up_proj,down_proj",
     .help = "module names separated by commas, or all-linear"},
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
     .help = "keep finished initialisations here, and take one from here where it fits",
     .files = FILES_DIRS},
    OPTION_JSON(init_args),
    OPTION_END,
};
const struct verb verb_init = {
    .name = "init",
    .summary = "an adapter at step 0, from the singular value decomposition of the weights",
    .about =
        "Prints a row per module: shape, seconds, residual of the decomposition (largest\n"
        "||W v - s u|| over the largest singular value), the singular values that the adapter\n"
        "takes, and the largest one of the matrix.",
    .example = "milora init model/ adapter/ --method milora --rank 32",
    .positionals = init_positionals,
    .options = init_options,
    .bytes = sizeof(struct init_args),
    .run = run_init,
};
