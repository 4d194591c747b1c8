/* SPDX-License-Identifier: Apache-2.0 */
/* world.h - the small world that the demonstration's texts speak of.
 *
 * English: short stories about people who each have a home, a pet and a favourite colour that never
 * change (what the model learns by heart), with counting and small sums in between.  Kelu: an
 * invented language with its own words and order, which no pretraining text contains: the new task.
 */
#ifndef MIL_DEMO_WORLD_H
#define MIL_DEMO_WORLD_H

#include <stdint.h>

#include "core/str.h"

/* A reproducible source of choices: the i-th call is a function of (seed, stream, i). */
struct dice {
    uint64_t seed;
    uint32_t stream, n;
};
int dice_roll(struct dice *d, int sides);

/* Append one story of four to eight sentences. */
void world_story(struct dice *d, struct str *out);

/* One sentence in both languages.  There are WORLD_SENTENCES of them, numbered. */
#define WORLD_SENTENCES (8 * 12 * 10 * 4 * 12)
void world_sentence(int number, struct str *english, struct str *kelu);

#endif
