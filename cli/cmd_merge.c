/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_merge.c - `merge`: base and adapter as one Hugging Face directory, checked on a probe text.
 */
#include <jansson.h>

#include "verbs.h"

struct merge_args {
    const char *model, *adapter, *out, *dtype, *probe;
    bool json, no_probe;
};

static enum mil_status print_result(const struct merge_args *args, const struct mil_merge_result *r,
                                    struct mil_error *err) {
    if (args->json)
        return cli_print_json(json_pack("{ss ss sf sI sf sf sI}", "out", args->out, "dtype",
                                        r->dtype, "seconds", r->seconds, "probe_tokens",
                                        (json_int_t)r->probe_tokens, "largest_logit_change",
                                        r->largest_change, "largest_logit", r->largest_logit,
                                        "argmax_changed", (json_int_t)r->argmax_changed),
                              err);
    char seconds[32];
    printf("%s: merged, %s, %s\n", args->out, r->dtype, mil_format_seconds(seconds, r->seconds));
    if (r->probe_tokens)
        printf("largest logit change on a probe text of %zu tokens: %.6g (logits reach %.4g; the "
               "likeliest token changed at %zu positions)\n",
               r->probe_tokens, r->largest_change, r->largest_logit, r->argmax_changed);
    return MIL_OK;
}

static enum mil_status run_merge(const void *p, struct mil_error *err) {
    const struct merge_args *args = p;
    struct mil_merge_options options = {.model = args->model,
                                        .adapter = args->adapter,
                                        .out = args->out,
                                        .dtype = args->dtype,
                                        .probe_text = args->probe,
                                        .no_probe = args->no_probe};
    struct mil_merge_result result = {0};
    enum mil_status st = mil_merge(&options, &result, err);
    return st == MIL_OK ? print_result(args, &result, err) : st;
}

static const struct option merge_positionals[] = {
    POSITIONAL_MODEL(merge_args),
    {.name = "ADAPTER",
     .type = OPTION_TEXT,
     .offset = offsetof(struct merge_args, adapter),
     .help = "adapter directory made for this model",
     .files = FILES_DIRS,
     .required = true},
    {.name = "OUT",
     .type = OPTION_TEXT,
     .offset = offsetof(struct merge_args, out),
     .help = "the model directory to make; it must not exist",
     .files = FILES_DIRS,
     .required = true},
    OPTION_END,
};
static const struct option merge_options[] = {
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
    .summary = "a model with the adapter added to its weights, as a Hugging Face directory",
    .about =
        "W + s (B A - B0 A0) is summed in f32 or better and rounded once. Then base + adapter\n"
        "and the merged model run on a probe text, and the largest change of a logit is "
        "printed.",
    .example = "milora merge model/ adapter/ merged/ --dtype bf16",
    .positionals = merge_positionals,
    .options = merge_options,
    .bytes = sizeof(struct merge_args),
    .run = run_merge,
};
