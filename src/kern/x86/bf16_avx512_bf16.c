/* SPDX-License-Identifier: Apache-2.0 */
/* bf16_avx512_bf16.c - the vector bodies of this folder for activations in bf16 where the processor
 * multiplies pairs of bf16 into f32 sums. */
#include "kern/x86/act_bf16.h"

#define KERN_FILL kern_avx512_bf16_fill_bf16
#define KERN_ISA ISA_AVX512_BF16
#define KERN_PAIRS
#include "kern/x86/table_tmpl.h"
