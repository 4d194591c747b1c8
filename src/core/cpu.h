/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - which instruction sets this processor has and the system has enabled.
 *
 * Levels are cumulative.  MILORA_ISA (ref, avx2, avx512, avx512_bf16, amx) lowers the level that is
 * used, for tests and bug reports; it can never raise it. */
#ifndef MIL_CORE_CPU_H
#define MIL_CORE_CPU_H

#include <stdbool.h>

#include "core/error.h"

/* X(enumerator, name) - in rising order */
#define ISA_MAP(X)                                                                                 \
    X(ISA_REF, "ref")                                                                              \
    X(ISA_AVX2, "avx2")                                                                            \
    X(ISA_AVX512, "avx512")                                                                        \
    X(ISA_AVX512_BF16, "avx512_bf16")                                                              \
    X(ISA_AMX, "amx")

enum isa {
#define ISA_ENUM(name, text) name,
    ISA_MAP(ISA_ENUM)
#undef ISA_ENUM
        ISA_LEVELS
};

enum isa cpu_isa_found(void);
/* The level in use: the found one, lowered by cpu_isa_limit or by MILORA_ISA. */
enum isa cpu_isa_used(void);
/* Lower the level in use (tests).  Raising beyond what was found is ignored. */
void cpu_isa_limit(enum isa level);
/* Read MILORA_ISA; MIL_USAGE if it names no level. Call once before computing. */
enum mil_status cpu_isa_from_environment(struct mil_error *err);
const char *isa_name(enum isa level);
/* Marketing name of the processor, "unknown" if the system does not say. Static storage. */
const char *cpu_model_name(void);

#endif
