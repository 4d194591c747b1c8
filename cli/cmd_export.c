/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_export.c - `export`: an adapter in a format that other programs load. */
#include "verbs.h"

struct export_args {
    const char *adapter, *out, *format, *model, *dtype;
};

static const char *const *choices_formats(void) {
    static const char *const names[] = {"peft", "lora", "residual", "gguf", NULL};
    return names;
}

static enum mil_status run_export(const void *p, struct mil_error *err) {
    const struct export_args *args = p;
    struct mil_export_options options = {.adapter = args->adapter,
                                         .out = args->out,
                                         .format = args->format,
                                         .model = args->model,
                                         .dtype = args->dtype};
    enum mil_status st = mil_export(&options, err);
    if (st == MIL_OK) printf("%s: exported as %s\n", args->out, args->format);
    return st;
}

static const struct option export_positionals[] = {
    {.name = "ADAPTER",
     .type = OPTION_TEXT,
     .offset = offsetof(struct export_args, adapter),
     .help = "adapter directory",
     .files = FILES_DIRS,
     .required = true},
    {.name = "OUT",
     .type = OPTION_TEXT,
     .offset = offsetof(struct export_args, out),
     .help = "the directory (gguf: the file) to make; it must not exist",
     .files = FILES_ANY,
     .required = true},
    OPTION_END,
};
static const struct option export_options[] = {
    {.name = "format",
     .type = OPTION_TEXT,
     .offset = offsetof(struct export_args, format),
     .value = "F",
     .help = "what to write",
     .choices = choices_formats,
     .required = true},
    {.name = "model",
     .type = OPTION_TEXT,
     .offset = offsetof(struct export_args, model),
     .value = "MODEL",
     .help = "the base, where it is not at the place that the adapter names",
     .files = FILES_ANY},
    {.name = "dtype",
     .type = OPTION_TEXT,
     .offset = offsetof(struct export_args, dtype),
     .value = "TYPE",
     .fallback = "f32",
     .help = "type of the written tensors (residual and gguf)",
     .choices = choices_stored},
    OPTION_END,
};
const struct verb verb_export = {
    .name = "export",
    .summary =
        "the adapter for PEFT, as a plain LoRA, as the paper's residual model, or as a GGUF LoRA",
    .about =
        "peft      what PEFT loads on the untouched base: a plain LoRA, a DoRA, an AdaLoRA\n"
        "lora      a plain LoRA in any case, for programs that know nothing else (vLLM): "
        "AdaLoRA's\n"
        "          Lambda goes into B, what it pruned is left out; a DoRA cannot be one, merge it\n"
        "residual  OUT is the model with s B0 A0 taken out, OUT/adapter the LoRA of rank r:\n"
        "          the paper's layout, of methods that start from a part of the weights\n"
        "gguf      a plain LoRA that llama.cpp loads on the base converted to GGUF",
    .example = "milora export adapter/ adapter.gguf --format gguf --model model/",
    .positionals = export_positionals,
    .options = export_options,
    .bytes = sizeof(struct export_args),
    .run = run_export,
};
