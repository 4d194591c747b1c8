/* SPDX-License-Identifier: Apache-2.0 */
/* continue.h - training goes on from a saved adapter (adapter_name_or_path): what it is decides the keys that
 * describe an adapter. */
#ifndef MIL_TRAIN_CONTINUE_H
#define MIL_TRAIN_CONTINUE_H

#include "train/config.h"

/* *to: a copy of `from`, where adapter_name_or_path is set with that adapter's method, rank, modules and flags in the
 * keys that were not given.  MIL_USAGE names a given one that differs, with both values.  What is no part of the
 * adapter (lora_dropout, loraplus_lr_ratio, AdaLoRA's schedule) may be given anew; without a schedule AdaLoRA keeps its
 * ranks.  config_release also after failure. */
enum mil_status continue_config(const struct config *from, struct config *to,
                                struct mil_error *err);
/* The adapter of such a configuration, checked against its base, with the configuration's options. */
enum mil_status continue_adapter(const struct config *c, const struct checkpoint *base,
                                 struct adapter **out, struct mil_error *err);

#endif
