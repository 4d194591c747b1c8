/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_env.c - `env`: versions, instruction sets, threads, libraries, backends, memory. */
#include <jansson.h>

#include "verbs.h"

struct env_args {
    bool json;
};

static enum mil_status print_json(const struct mil_env *e, struct mil_error *err) {
    json_t *levels = json_array(), *libraries = json_object(), *backends = json_array();
    for (size_t i = 0; e->isa_levels[i]; i++)
        json_array_append_new(levels, json_string(e->isa_levels[i]));
    for (size_t i = 0; i < e->n_libraries; i++)
        json_object_set_new(libraries, e->libraries[i].name, json_string(e->libraries[i].version));
    for (size_t i = 0; i < e->n_backends; i++)
        json_array_append_new(backends,
                              json_pack("{ss sb ss}", "name", e->backends[i].name, "available",
                                        e->backends[i].available, "detail", e->backends[i].detail));
    return cli_print_json(
        json_pack("{ss ss ss ss s{ss ss so} s{si si} s{sI sI} so so}", "version", e->version,
                  "compiler", e->compiler, "build", e->build, "cpu", e->cpu, "isa", "found",
                  e->isa_found, "used", e->isa_used, "levels", levels, "threads", "available",
                  e->processors, "used", e->threads, "memory", "total_bytes",
                  (json_int_t)e->memory_total, "available_bytes", (json_int_t)e->memory_available,
                  "libraries", libraries, "backends", backends),
        err);
}

static void print_text(const struct mil_env *e) {
    char total[32], available[32];
    printf("milora       %s (%s, %s)\n", e->version, e->build, e->compiler);
    printf("processor    %s\n", e->cpu);
    printf("instructions found %s, used %s", e->isa_found, e->isa_used);
    printf(" (levels:");
    for (size_t i = 0; e->isa_levels[i]; i++) printf(" %s", e->isa_levels[i]);
    printf("; MILORA_ISA lowers it)\n");
    printf("threads      %d of %d\n", e->threads, e->processors);
    printf("memory       %s, %s available\n", mil_format_bytes(total, e->memory_total),
           mil_format_bytes(available, e->memory_available));
    printf("libraries\n");
    for (size_t i = 0; i < e->n_libraries; i++)
        printf("  %-10s %-36s %s\n", e->libraries[i].name, e->libraries[i].use,
               e->libraries[i].version);
    printf("backends\n");
    for (size_t i = 0; i < e->n_backends; i++)
        printf("  %-10s %s: %s\n", e->backends[i].name,
               e->backends[i].available ? "available" : "not available", e->backends[i].detail);
}

static enum mil_status run_env(const void *p, struct mil_error *err) {
    const struct env_args *args = p;
    static struct mil_env env;
    mil_env_get(&env);
    if (args->json) return print_json(&env, err);
    print_text(&env);
    return MIL_OK;
}

static const struct option env_options[] = {OPTION_JSON(env_args), OPTION_END};
const struct verb verb_env = {
    .name = "env",
    .summary = "versions, instruction sets found and used, threads, libraries, backends, memory",
    .example = "milora env --json",
    .options = env_options,
    .bytes = sizeof(struct env_args),
    .run = run_env,
};
