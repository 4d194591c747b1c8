/* SPDX-License-Identifier: Apache-2.0 */
/* bf16_avx512.c - the vector bodies of this folder for activations in bf16, instruction set avx512.
 */
#include "kern/x86/act_bf16.h"

#define KERN_FILL kern_avx512_fill_bf16
#define KERN_ISA ISA_AVX512
#include "kern/x86/table_tmpl.h"
