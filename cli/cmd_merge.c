/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_merge.c - `merge`: base and adapters as one Hugging Face directory, checked on a probe text. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "verbs.h"

enum { MERGE_MOST = 64 };

struct merge_args {
    const char *model, *adapter, *dtype, *probe, *weights;
    struct rest rest; /* further adapters, then OUT */
    bool json, no_probe;
};

static enum mil_status print_result(const struct merge_args *args, const char *out,
                                    const struct mil_merge_result *r, struct mil_error *err) {
    if (args->json)
        return cli_print_json(json_pack("{ss ss sf sI sf sf sI sb}", "out", out, "dtype", r->dtype,
                                        "seconds", r->seconds, "probe_tokens",
                                        (json_int_t)r->probe_tokens, "largest_logit_change",
                                        r->largest_change, "largest_logit", r->largest_logit,
                                        "argmax_changed", (json_int_t)r->argmax_changed,
                                        "against_base", r->against_base),
                              err);
    char seconds[32];
    printf("%s: merged, %s, %s\n", out, r->dtype, mil_format_seconds(seconds, r->seconds));
    if (r->probe_tokens)
        printf("largest logit change on a probe text of %zu tokens%s: %.6g (logits reach %.4g; the "
               "likeliest token changed at %zu positions)\n",
               r->probe_tokens, r->against_base ? ", against the model alone" : "",
               r->largest_change, r->largest_logit, r->argmax_changed);
    return MIL_OK;
}

/* "1,0.5" as n numbers. */
static enum mil_status read_weights(const char *text, size_t n, double *out,
                                    struct mil_error *err) {
    const char *whole = text;
    for (size_t i = 0; i < n; i++) {
        char *end;
        errno = 0;
        out[i] = strtod(text, &end);
        bool last = i + 1 == n;
        if (end == text || errno == ERANGE || *end != (last ? '\0' : ','))
            return cli_usage(err,
                             "--weights '%s': %zu numbers separated by commas are needed, one an "
                             "adapter",
                             whole, n);
        text = end + 1;
    }
    return MIL_OK;
}

static enum mil_status run_merge(const void *p, struct mil_error *err) {
    const struct merge_args *args = p;
    const char *adapters[MERGE_MOST] = {args->adapter};
    double weights[MERGE_MOST];
    size_t n = args->rest.n; /* the first adapter is not among the rest, but OUT is */
    if (n == 0) return cli_usage(err, "OUT is missing; 'milora merge --help' shows an example");
    if (n > MERGE_MOST) return cli_usage(err, "%zu adapters; at most %d at once", n, MERGE_MOST);
    for (size_t i = 1; i < n; i++) adapters[i] = args->rest.items[i - 1];
    struct mil_merge_options options = {.model = args->model,
                                        .adapters = adapters,
                                        .n_adapters = n,
                                        .out = args->rest.items[n - 1],
                                        .dtype = args->dtype,
                                        .probe_text = args->probe,
                                        .no_probe = args->no_probe};
    enum mil_status st = MIL_OK;
    if (args->weights) {
        st = read_weights(args->weights, n, weights, err);
        options.weights = weights;
    }
    struct mil_merge_result result = {0};
    if (st == MIL_OK) st = mil_merge(&options, &result, err);
    return st == MIL_OK ? print_result(args, options.out, &result, err) : st;
}

static const struct option merge_positionals[] = {
    POSITIONAL_MODEL(merge_args),
    {.name = "ADAPTER",
     .type = OPTION_TEXT,
     .offset = offsetof(struct merge_args, adapter),
     .help = "adapter directory made for this model",
     .files = FILES_DIRS,
     .required = true},
    {.name = "[ADAPTER...] OUT",
     .type = OPTION_REST,
     .offset = offsetof(struct merge_args, rest),
     .help = "further adapters, and the model directory to make; it must not exist",
     .files = FILES_DIRS,
     .required = true},
    OPTION_END,
};
static const struct option merge_options[] = {
    {.name = "weights",
     .type = OPTION_TEXT,
     .offset = offsetof(struct merge_args, weights),
     .value = "LIST",
     .help = "how much of each adapter, numbers separated by commas; default: 1 each"},
    {.name = "dtype",
     .type = OPTION_TEXT,
     .offset = offsetof(struct merge_args, dtype),
     .value = "TYPE",
     .help = "type of the merged weights, by default as the model is stored",
     .choices = choices_stored},
    {.name = "probe",
     .type = OPTION_TEXT,
     .offset = offsetof(struct merge_args, probe),
     .value = "S",
     .help = "text to compare logits on, instead of the built-in one"},
    {.name = "no-probe",
     .type = OPTION_FLAG,
     .offset = offsetof(struct merge_args, no_probe),
     .help = "do not compare logits"},
    OPTION_JSON(merge_args),
    OPTION_END,
};
const struct verb verb_merge = {
    .name = "merge",
    .summary = "a model with adapters added to its weights, as a Hugging Face directory",
    .about =
        "W + s (B A - B0 A0) is summed in f64 and rounded once. Then base + adapter\n"
        "and the merged model run on a probe text, and the largest change of a logit is "
        "printed.\n"
        "Of several adapters the changes are added, each times its weight: W + w1 (W1 - W) + w2 "
        "(W2 - W).\n"
        "The probe then tells how far the merged model is from MODEL.",
    .example = "milora merge model/ adapter/ merged/ --dtype bf16\n"
               "milora merge model/ math/ code/ merged/ --weights 1,0.5",
    .positionals = merge_positionals,
    .options = merge_options,
    .bytes = sizeof(struct merge_args),
    .run = run_merge,
};
