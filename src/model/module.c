/* SPDX-License-Identifier: Apache-2.0 */
/* module.c - names and shapes of the linear modules of a layer, and the parameter count. */
#include "model/config.h"

#include <stdio.h>

static const char *const suffixes[MODULES] = {
#define MODULE_SUFFIX(name, suffix, path) suffix,
    MODULE_MAP(MODULE_SUFFIX)
#undef MODULE_SUFFIX
};
static const char *const paths[MODULES] = {
#define MODULE_PATH(name, suffix, path) path,
    MODULE_MAP(MODULE_PATH)
#undef MODULE_PATH
};

const char *module_suffix(enum module m) {
    return suffixes[m];
}

const char *module_path(enum module m) {
    return paths[m];
}

void module_name(char out[MODULE_NAME_CAP], int64_t layer, enum module m) {
    snprintf(out, MODULE_NAME_CAP, "model.layers.%lld.%s", (long long)layer, module_path(m));
}

int64_t module_rows(const struct model_config *c, enum module m) {
    switch (m) {
    case MODULE_Q: return c->heads * c->head_dim;
    case MODULE_K:
    case MODULE_V: return c->kv_heads * c->head_dim;
    case MODULE_GATE:
    case MODULE_UP: return c->ffn;
    case MODULE_O:
    case MODULE_DOWN: return c->width;
    case MODULES: break;
    }
    REQUIRE(!"module in range");
    return 0;
}

int64_t module_cols(const struct model_config *c, enum module m) {
    if (m == MODULE_O) return c->heads * c->head_dim;
    return m == MODULE_DOWN ? c->ffn : c->width;
}

bool module_has_bias(const struct model_config *c, enum module m) {
    if (m == MODULE_O) return c->o_bias;
    return m < MODULE_O ? c->qkv_bias : c->mlp_bias;
}

int64_t model_config_parameters(const struct model_config *c) {
    int64_t layer = 2 * c->width;
    for (int m = 0; m < MODULES; m++) {
        int64_t rows = module_rows(c, (enum module)m);
        layer += rows * module_cols(c, (enum module)m);
        if (module_has_bias(c, (enum module)m)) layer += rows;
    }
    int64_t tables = (c->tied_head ? 1 : 2) * c->vocab * c->width;
    return tables + c->layers * layer + c->width;
}
