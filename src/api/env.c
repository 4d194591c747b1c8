/* SPDX-License-Identifier: Apache-2.0 */
/* env.c - facts about build and machine, each asked of the library it is about. */
#include "milora/env.h"

#include <cblas.h>
#include <dnnl.h>
#include <jansson.h>
#include <omp.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <protobuf-c/protobuf-c.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>
#include <yaml.h>

#include "backend/backend.h"
#include "core/cpu.h"
#include "core/mem.h"
#include "core/threads.h"

const char *mil_version(void) {
    return MILORA_VERSION;
}

uint64_t mil_peak_rss(void) {
    return mem_peak_rss();
}

static const char *build_kind(void) {
#if defined(__SANITIZE_ADDRESS__)
    return "with AddressSanitizer";
#elif defined(NDEBUG)
    return "release";
#else
    return "debug";
#endif
}

static char *library(struct mil_env *e, const char *name, const char *use) {
    struct mil_library_fact *fact = &e->libraries[e->n_libraries++];
    fact->name = name;
    fact->use = use;
    return fact->version;
}

enum { VERSION_CAP = sizeof((struct mil_library_fact *)0)->version };

/* LAPACK's own version; a Fortran symbol that LAPACKE's header does not declare. */
void ilaver_(int *major, int *minor, int *patch);

static void list_libraries(struct mil_env *e) {
    const dnnl_version_t *dnnl = dnnl_version();
    snprintf(library(e, "oneDNN", "products of bf16 and f32 matrices"), VERSION_CAP, "%d.%d.%d",
             dnnl->major, dnnl->minor, dnnl->patch);
    snprintf(library(e, "OpenBLAS", "products in f32 and f64"), VERSION_CAP, "%s",
             openblas_get_config());
    int major = 0, minor = 0, patch = 0;
    ilaver_(&major, &minor, &patch);
    snprintf(library(e, "LAPACK", "singular value decompositions"), VERSION_CAP, "%d.%d.%d", major,
             minor, patch);
    snprintf(library(e, "OpenMP", "threads"), VERSION_CAP, "%d", _OPENMP);
    snprintf(library(e, "jansson", "JSON"), VERSION_CAP, "%s", jansson_version_str());
    snprintf(library(e, "libyaml", "YAML"), VERSION_CAP, "%s", yaml_get_version_string());
    char pcre2[64] = "";
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    snprintf(library(e, "PCRE2", "patterns"), VERSION_CAP, "%s", pcre2);
    snprintf(library(e, "utf8proc", "Unicode normalisation"), VERSION_CAP, "%s",
             utf8proc_version());
    unsigned xxh = XXH_versionNumber();
    snprintf(library(e, "xxHash", "content hashes"), VERSION_CAP, "%u.%u.%u", xxh / 10000,
             xxh / 100 % 100, xxh % 100);
    snprintf(library(e, "protobuf-c", "tokenizer and event files"), VERSION_CAP, "%s",
             protobuf_c_version());
}

/* A backend is available when it opens; what it says, or why it does not open, is the detail. */
static void list_backends(struct mil_env *e) {
    static const char *const names[] = {"cpu", "cuda"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct mil_backend_fact *fact = &e->backends[e->n_backends++];
        struct mil_error err = {0};
        struct backend *b = NULL;
        fact->name = names[i];
        fact->available = backend_open(names[i], DT_BF16, &b, &err) == MIL_OK;
        snprintf(fact->detail, sizeof fact->detail, "%s",
                 fact->available ? backend_describe(b) : err.message);
        backend_free(&b);
    }
}

void mil_env_get(struct mil_env *out) {
    *out = (struct mil_env){.version = mil_version(), .build = build_kind()};
#if defined(__clang__)
    out->compiler = "clang " __clang_version__;
#else
    out->compiler = "gcc " __VERSION__;
#endif
    out->cpu = cpu_model_name();
    out->isa_found = isa_name(cpu_isa_found());
    out->isa_used = isa_name(cpu_isa_used());
    for (int i = 0; i < ISA_LEVELS && i < MIL_ENV_LEVELS; i++)
        out->isa_levels[i] = isa_name((enum isa)i);
    cpu_set_t set;
    out->processors =
        sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : omp_get_num_procs();
    out->threads = threads_count();
    out->memory_total = mem_machine_total();
    out->memory_available = mem_machine_available();
    list_libraries(out);
    list_backends(out);
}
