/* SPDX-License-Identifier: Apache-2.0 */
/* rope.h - frequencies and table of the rotary embedding (internal to src/model). */
#ifndef MIL_MODEL_ROPE_H
#define MIL_MODEL_ROPE_H

#include "model/config.h"

/* Angular frequency of each of the D/2 pairs, as the model was trained with: rounded to f32 (see
 * rope.c). */
void rope_frequencies(const struct rope_config *r, int64_t head_dim, float *out);
/* One row of the table: cos in the first half, sin in the second; frequencies: D/2. */
void rope_row_f32(const float *frequencies, int64_t head_dim, int64_t position, float *row);
void rope_row_f64(const float *frequencies, int64_t head_dim, int64_t position, double *row);
/* What llama.cpp's converter stores as rope_freqs.weight for ROPE_LLAMA3: by how much each
 * frequency is divided. D/2 of them. */
void rope_llama3_divisors(const struct rope_config *r, int64_t head_dim, double *out);

#endif
