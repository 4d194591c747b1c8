/* SPDX-License-Identifier: Apache-2.0 */
/* method.c - the table of methods.  A new method is its file in methods/, its name in factors.h
 * and one entry here. */
#include "adapt/method.h"

#include <string.h>

#include "adapt/methods/factors.h"
#include "core/str.h"

static const struct method *const table[] = {
    &method_milora, &method_lora,  &method_rslora,  &method_lora_plus,
    &method_dora,   &method_pissa, &method_mid,     &method_random,
    &method_olora,  &method_mica,  &method_adalora, &method_lora_ga,
    &method_full,   NULL};
enum { METHODS = sizeof table / sizeof *table - 1 };

const struct method *const *method_table(void) {
    return table;
}

enum mil_status method_find(const char *name, const struct method **out, struct mil_error *err) {
    const char *names[METHODS];
    for (int i = 0; i < METHODS; i++) {
        names[i] = table[i]->name;
        if (strcmp(name, names[i]) == 0) {
            *out = table[i];
            return MIL_OK;
        }
    }
    const char *nearest = str_nearest(name, names, METHODS);
    struct str known = {0};
    for (int i = 0; i < METHODS; i++) str_addf(&known, "%s%s", i ? ", " : "", names[i]);
    enum mil_status st =
        nearest ? error_set(err, MIL_USAGE, "method '%.64s' is not known; did you mean '%s'?", name,
                            nearest)
                : error_set(err, MIL_USAGE, "method '%.64s' is not known; choose one of %s", name,
                            str_c(&known));
    str_release(&known);
    return st;
}
