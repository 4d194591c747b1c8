/* SPDX-License-Identifier: Apache-2.0 */
/* adalora.c - what AdaLoRA does in an optimiser step beyond the parameters' updates. */
#include "adapt/adalora.h"

const struct method_step adalora_step = {0};
