/* SPDX-License-Identifier: Apache-2.0 */
/* adalora.h - AdaLoRA's part of an optimiser step (adalora.c): penalty, importance, budget, masks. */
#ifndef MIL_ADAPT_ADALORA_H
#define MIL_ADAPT_ADALORA_H

#include "adapt/method.h"

extern const struct method_step adalora_step;

#endif
