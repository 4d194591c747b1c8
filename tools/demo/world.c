/* SPDX-License-Identifier: Apache-2.0 */
/* world.c - grammar and word lists of the demonstration; see world.h.
 *
 * Kelu puts the verb first and the adjective behind its noun, marks plurals by doubling the noun's
 * first syllable, and counts after the noun: the red cat sees two dogs  ->  vani mosa tiru papako
 * dun                                           */
#include "world.h"

#include "core/rng.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

int dice_roll(struct dice *d, int sides) {
    struct rng_words r = rng_words(d->seed, d->stream, 0, d->n++);
    return (int)(((uint64_t)r.w[0] * (uint64_t)sides) >> 32);
}

static const char *const names[] = {"Anna",  "Ben",   "Clara", "David", "Emma", "Felix",
                                    "Grace", "Henry", "Iris",  "Jack",  "Kate", "Leo",
                                    "Mary",  "Noah",  "Olive", "Paul"};
static const char *const animals[] = {"cat",  "dog",   "bird",   "horse", "fox",  "mouse",
                                      "frog", "sheep", "rabbit", "duck",  "bear", "goat"};
static const char *const plurals[] = {"cats",  "dogs",  "birds",   "horses", "foxes", "mice",
                                      "frogs", "sheep", "rabbits", "ducks",  "bears", "goats"};
static const char *const colours[] = {"red",   "blue",  "green", "white",
                                      "black", "brown", "grey",  "yellow"};
static const char *const places[] = {"the river", "the old mill", "the market", "the forest",
                                     "the hill",  "the school",   "the lake",   "the bakery"};
static const char *const things[] = {"apple", "book", "lamp", "drum", "kite", "coat",
                                     "cup",   "hat",  "rope", "coin", "leaf", "stone"};
static const char *const verbs[] = {"sees",  "likes", "follows", "hears",  "meets",
                                    "helps", "finds", "calls",   "greets", "knows"};
static const char *const numbers[] = {"zero",    "one",     "two",       "three",    "four",
                                      "five",    "six",     "seven",     "eight",    "nine",
                                      "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                      "fifteen", "sixteen", "seventeen", "eighteen"};
static const char *const weather[] = {"sunny", "cold", "windy", "warm", "rainy", "quiet"};

static const char *const kelu_animals[] = {"mosa", "pako",  "lirin", "tego", "sunu", "vemi",
                                           "karo", "dolan", "rupi",  "nesa", "bomu", "hila"};
static const char *const kelu_colours[] = {"tiru", "sela", "mano", "fipo",
                                           "rud",  "gane", "lok",  "wesi"};
static const char *const kelu_verbs[] = {"vani", "loru", "teki", "sumo", "pirel",
                                         "gado", "neri", "halu", "bisa", "komet"};
static const char *const kelu_numbers[] = {"dun", "tris", "kel", "pon"};

/* Songs are made of syllables without meaning: their letters are known, Kelu's words are not. */
static void song(struct dice *d, struct str *out) {
    static const char consonants[] = "bdfghklmnprstvw", vowels[] = "aeiou";
    int words = 2 + dice_roll(d, 4);
    for (int i = 0; i < words; i++) {
        str_addc(out, ' ');
        for (int k = 2 + dice_roll(d, 2); k > 0; k--) {
            str_addc(out, consonants[dice_roll(d, COUNT(consonants) - 1)]);
            str_addc(out, vowels[dice_roll(d, COUNT(vowels) - 1)]);
            if (k == 1 && dice_roll(d, 4) == 0) str_addc(out, "nrlst"[dice_roll(d, 5)]);
        }
    }
}

/* Facts about a person never change: functions of the name's number. */
static const char *home_of(int name) {
    return places[(name * 5 + 3) % COUNT(places)];
}
static int pet_of(int name) {
    return (name * 7 + 2) % COUNT(animals);
}
static const char *pet_colour_of(int name) {
    return colours[(name * 3 + 1) % COUNT(colours)];
}

static void sentence_about(struct dice *d, int who, struct str *out) {
    const char *name = names[who];
    int other = dice_roll(d, COUNT(names));
    int a = dice_roll(d, 10), b = dice_roll(d, 9);
    const char *thing = things[dice_roll(d, COUNT(things))];
    switch (dice_roll(d, 12)) {
    case 0: str_addf(out, "%s lives near %s.", name, home_of(who)); break;
    case 1: str_addf(out, "%s has a %s %s.", name, pet_colour_of(who), animals[pet_of(who)]); break;
    case 2: str_addf(out, "It is a %s day.", weather[dice_roll(d, COUNT(weather))]); break;
    case 3:
        str_addf(out, "%s counts: %s and %s make %s.", name, numbers[a], numbers[b],
                 numbers[a + b]);
        break;
    case 4:
        str_addf(out, "%s %s %s.", name, verbs[dice_roll(d, COUNT(verbs))], names[other]);
        break;
    case 5: str_addf(out, "%s walks to %s and finds a %s.", name, home_of(other), thing); break;
    case 6:
        str_addf(out, "The %s of %s %s the %s of %s.", animals[pet_of(who)], name,
                 verbs[dice_roll(d, COUNT(verbs))], animals[pet_of(other)], names[other]);
        break;
    case 7:
        str_addf(out, "%s gives the %s to %s, and now %s has the %s.", name, thing, names[other],
                 names[other], thing);
        break;
    case 8:
        str_addf(out, "There are %s %s near %s.", numbers[2 + dice_roll(d, 6)],
                 plurals[dice_roll(d, COUNT(plurals))], places[dice_roll(d, COUNT(places))]);
        break;
    case 9:
        str_addf(out, "The %s %s %s %s %s.", colours[dice_roll(d, COUNT(colours))],
                 animals[dice_roll(d, COUNT(animals))], verbs[dice_roll(d, COUNT(verbs))],
                 numbers[2 + dice_roll(d, 4)], plurals[dice_roll(d, COUNT(plurals))]);
        break;
    case 10:
        str_addf(out, "%s sings:", name);
        song(d, out);
        str_addc(out, '.');
        break;
    default:
        str_addf(out, "%s says: my %s is %s.", name, animals[pet_of(who)], pet_colour_of(who));
        break;
    }
}

void world_story(struct dice *d, struct str *out) {
    int who = dice_roll(d, COUNT(names)), n = 4 + dice_roll(d, 5);
    for (int i = 0; i < n; i++) {
        if (i) str_addc(out, ' ');
        sentence_about(d, who, out);
    }
}

void world_sentence(int number, struct str *english, struct str *kelu) {
    int colour = number % 8, animal = number / 8 % 12, verb = number / 96 % 10;
    int count = number / 960 % 4, object = number / 3840 % 12;
    const char *o = kelu_animals[object];
    str_addf(english, "the %s %s %s %s %s", colours[colour], animals[animal], verbs[verb],
             numbers[count + 2], plurals[object]);
    str_addf(kelu, "%s %s %s %.2s%s %s", kelu_verbs[verb], kelu_animals[animal],
             kelu_colours[colour], o, o, kelu_numbers[count]);
}
