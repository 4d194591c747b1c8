/* SPDX-License-Identifier: Apache-2.0 */
/* env.h - what this build and this machine are: the facts a bug report needs. */
#ifndef MILORA_ENV_H
#define MILORA_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "milora/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0"; static storage. */
const char *mil_version(void);

struct mil_library_fact {
    const char *name; /* "oneDNN" */
    char version[96]; /* as the library itself says at run time */
    const char *use;  /* what it does here */
};
struct mil_backend_fact {
    const char *name; /* "cpu", "cuda" */
    int available;    /* 1: works on this machine in this build */
    char detail[512]; /* available: what it will use; else why not */
};
enum { MIL_ENV_LIBRARIES = 16, MIL_ENV_BACKENDS = 4, MIL_ENV_LEVELS = 8 };
struct mil_env {
    const char *version, *compiler, *build; /* build: "release", "debug", with sanitizers named */
    const char *cpu;                        /* marketing name */
    const char *isa_found, *isa_used;       /* highest level of this processor; level in use */
    const char *isa_levels[MIL_ENV_LEVELS + 1]; /* all levels, rising, NULL-terminated */
    int processors, threads;                    /* that this process may run on; in use */
    uint64_t memory_total, memory_available;    /* bytes */
    struct mil_library_fact libraries[MIL_ENV_LIBRARIES];
    size_t n_libraries;
    struct mil_backend_fact backends[MIL_ENV_BACKENDS];
    size_t n_backends;
};
/* Strings are static or inside *out. */
void mil_env_get(struct mil_env *out);

/* Peak resident set of this process in bytes. */
uint64_t mil_peak_rss(void);

#ifdef __cplusplus
}
#endif
#endif
