/* SPDX-License-Identifier: Apache-2.0 */
/* f32_avx2.c - the vector bodies of this folder for activations in f32, instruction set avx2. */
#include "kern/x86/act_f32.h"

#define KERN_FILL kern_avx2_fill_f32
#define KERN_ISA ISA_AVX2
#include "kern/x86/table_tmpl.h"
