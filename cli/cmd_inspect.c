/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_inspect.c - `inspect`: what is in a model, an adapter or a tensor file. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "verbs.h"

struct inspect_args {
    const char *path;
    bool json, no_tensors;
};

static json_t *fact_value(const struct mil_fact *fact) {
    json_t *v = fact->literal ? json_loads(fact->value, JSON_DECODE_ANY, NULL) : NULL;
    return v ? v : json_string(fact->value);
}

static json_t *tensors_json(const mil_inspection *in) {
    json_t *list = json_array();
    for (size_t i = 0; i < mil_inspect_tensors(in); i++) {
        const struct mil_tensor_info *t = mil_inspect_tensor(in, i);
        json_t *shape = json_array();
        for (int k = 0; k < t->ndim; k++) json_array_append_new(shape, json_integer(t->shape[k]));
        json_array_append_new(list, json_pack("{ss ss so sI ss}", "name", t->name, "dtype",
                                              t->dtype, "shape", shape, "bytes",
                                              (json_int_t)t->bytes, "file", t->file));
    }
    return list;
}

static enum mil_status print_json(const struct inspect_args *args, const mil_inspection *in,
                                  struct mil_error *err) {
    json_t *facts = json_object(), *metadata = json_object();
    for (size_t i = 0; i < mil_inspect_facts(in); i++)
        json_object_set_new(facts, mil_inspect_fact(in, i)->key,
                            fact_value(mil_inspect_fact(in, i)));
    for (size_t i = 0; i < mil_inspect_metadata_count(in); i++)
        json_object_set_new(metadata, mil_inspect_metadata(in, i)->key,
                            fact_value(mil_inspect_metadata(in, i)));
    json_t *root =
        json_pack("{ss ss so sI sI sI so}", "path", args->path, "format", mil_inspect_format(in),
                  "facts", facts, "tensor_count", (json_int_t)mil_inspect_tensors(in), "parameters",
                  (json_int_t)mil_inspect_elements(in), "bytes", (json_int_t)mil_inspect_bytes(in),
                  "metadata", metadata);
    if (root && !args->no_tensors) json_object_set_new(root, "tensors", tensors_json(in));
    return cli_print_json(root, err);
}

/* A fact on one line: long values (chat templates, token lists) are cut. */
static void print_fact(const struct mil_fact *fact, int width) {
    size_t n = strlen(fact->value), limit = 100;
    printf("  %-*s  ", width, fact->key);
    for (size_t i = 0; i < n && i < limit; i++) {
        unsigned char c = (unsigned char)fact->value[i];
        if (c == '\n')
            fputs("\\n", stdout);
        else
            putchar(c < 0x20 || c == 0x7f ? '?' : c);
    }
    printf(n > limit ? "... (%zu bytes)\n" : "\n", n);
}

static void print_tensors(const mil_inspection *in) {
    int width = 6;
    for (size_t i = 0; i < mil_inspect_tensors(in); i++) {
        int n = (int)strlen(mil_inspect_tensor(in, i)->name);
        if (n > width) width = n < 72 ? n : 72;
    }
    printf("tensors\n");
    for (size_t i = 0; i < mil_inspect_tensors(in); i++) {
        const struct mil_tensor_info *t = mil_inspect_tensor(in, i);
        char shape[160] = "[";
        for (int k = 0; k < t->ndim; k++) {
            size_t used = strlen(shape);
            snprintf(shape + used, sizeof shape - used, k ? ", %" PRId64 : "%" PRId64, t->shape[k]);
        }
        printf("  %-*s  %-5s %s]\n", width, t->name, t->dtype, shape);
    }
}

static void print_facts(const char *title, const mil_inspection *in, size_t n,
                        const struct mil_fact *(*at)(const mil_inspection *, size_t)) {
    int width = 0;
    for (size_t i = 0; i < n; i++) {
        int k = (int)strlen(at(in, i)->key);
        if (k > width) width = k < 44 ? k : 44;
    }
    if (n) printf("%s\n", title);
    for (size_t i = 0; i < n; i++) print_fact(at(in, i), width);
}

static void print_text(const struct inspect_args *args, const mil_inspection *in) {
    char bytes[32];
    printf("%s: %s\n", args->path, mil_inspect_format(in));
    print_facts("facts", in, mil_inspect_facts(in), mil_inspect_fact);
    print_facts("metadata", in, mil_inspect_metadata_count(in), mil_inspect_metadata);
    if (!args->no_tensors && mil_inspect_tensors(in)) print_tensors(in);
    printf("%zu tensors, %" PRIu64 " parameters, %" PRIu64 " bytes (%s)\n", mil_inspect_tensors(in),
           mil_inspect_elements(in), mil_inspect_bytes(in),
           mil_format_bytes(bytes, mil_inspect_bytes(in)));
}

static enum mil_status run_inspect(const void *p, struct mil_error *err) {
    const struct inspect_args *args = p;
    mil_inspection *in = NULL;
    enum mil_status st = mil_inspect(args->path, &in, err);
    if (st == MIL_OK && args->json)
        st = print_json(args, in, err);
    else if (st == MIL_OK)
        print_text(args, in);
    mil_inspect_free(&in);
    return st;
}

static const struct option inspect_positionals[] = {
    {.name = "PATH",
     .type = OPTION_TEXT,
     .offset = offsetof(struct inspect_args, path),
     .help = "model directory, adapter directory, .safetensors or .gguf file",
     .files = FILES_ANY,
     .required = true},
    OPTION_END,
};
static const struct option inspect_options[] = {
    OPTION_JSON(inspect_args),
    {.name = "no-tensors",
     .type = OPTION_FLAG,
     .offset = offsetof(struct inspect_args, no_tensors),
     .help = "leave the list of tensors out"},
    OPTION_END,
};
const struct verb verb_inspect = {
    .name = "inspect",
    .summary = "architecture, tensors, parameters, bytes and metadata of a model, adapter or file",
    .example = "milora inspect model/ --no-tensors",
    .positionals = inspect_positionals,
    .options = inspect_options,
    .bytes = sizeof(struct inspect_args),
    .run = run_inspect,
};
