/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c - detection through the compiler's cpuid support, which also checks that the system saves
 * the wide registers (XCR0); AMX needs a permission from the kernel besides. */
#include "core/cpu.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const names[] = {
#define ISA_TEXT(name, text) text,
    ISA_MAP(ISA_TEXT)
#undef ISA_TEXT
};

const char *isa_name(enum isa level) {
    return level < ISA_LEVELS ? names[level] : "?";
}

/* CPUID leaf 7: EDX bit 22 AMX-BF16, bit 24 AMX-TILE; leaf 7.1: EAX bit 5 AVX512-BF16. */
static bool has_avx512_bf16(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

static bool has_amx_bf16(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
    enum { REQUEST_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_XCOMP_PERM, TILE_DATA) == 0;
}

static enum isa detect(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return ISA_REF;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return ISA_AVX2;
    if (!has_avx512_bf16()) return ISA_AVX512;
    return has_amx_bf16() ? ISA_AMX : ISA_AVX512_BF16;
}

static int found_ = -1, limit_ = ISA_LEVELS;

enum isa cpu_isa_found(void) {
    if (found_ < 0) found_ = (int)detect();
    return (enum isa)found_;
}

enum isa cpu_isa_used(void) {
    int found = (int)cpu_isa_found();
    return (enum isa)(limit_ < found ? limit_ : found);
}

void cpu_isa_limit(enum isa level) {
    limit_ = (int)level;
}

enum mil_status cpu_isa_from_environment(struct mil_error *err) {
    const char *want = getenv("MILORA_ISA");
    if (!want || !*want) return MIL_OK;
    for (int i = 0; i < ISA_LEVELS; i++)
        if (strcmp(want, names[i]) == 0) {
            cpu_isa_limit((enum isa)i);
            return MIL_OK;
        }
    return error_set(err, MIL_USAGE,
                     "MILORA_ISA=%s: no such level (ref, avx2, avx512, avx512_bf16, amx)", want);
}

const char *cpu_model_name(void) {
    static char name[128];
    if (name[0]) return name;
    snprintf(name, sizeof name, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return name;
    char line[256];
    while (fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0) {
            char *colon = strchr(line, ':');
            if (colon)
                snprintf(name, sizeof name, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    fclose(f);
    return name;
}
