/* SPDX-License-Identifier: Apache-2.0 */
/* A config.json, or a whole GGUF model: whatever is accepted lies within the limits of config.h,
 * and the config.json that we write for it is read back as the same model. */
#include <string.h>

#include "fuzz.h"
#include "io/json.h"
#include "model/checkpoint.h"

static void check_limits(const struct model_config *c) {
    REQUIRE(c->vocab >= 1 && c->vocab <= MODEL_MAX_VOCAB);
    REQUIRE(c->width >= 1 && c->width <= MODEL_MAX_WIDTH);
    REQUIRE(c->ffn >= 1 && c->ffn <= MODEL_MAX_WIDTH);
    REQUIRE(c->layers >= 1 && c->layers <= MODEL_MAX_LAYERS);
    REQUIRE(c->heads >= 1 && c->kv_heads >= 1 && c->heads % c->kv_heads == 0);
    REQUIRE(c->head_dim >= 2 && c->head_dim % 2 == 0 && c->heads * c->head_dim <= MODEL_MAX_WIDTH);
    REQUIRE(c->n_eos >= 0 && c->n_eos <= MODEL_MAX_EOS && c->bos < c->vocab);
    REQUIRE(c->rope.theta >= 1 && c->rope.factor > 0);
    REQUIRE(model_config_parameters(c) > 0);
}

static void check_round_trip(const struct model_config *c) {
    struct mil_error err = {0};
    struct model_config back;
    json_t *json = model_config_to_json(c, DT_BF16);
    REQUIRE(json);
    enum mil_status st = model_config_from_json(json, "written", &back, &err);
    check_error(st, &err);
    REQUIRE(st == MIL_OK);
    REQUIRE(back.vocab == c->vocab && back.width == c->width && back.layers == c->layers);
    REQUIRE(back.heads == c->heads && back.kv_heads == c->kv_heads && back.ffn == c->ffn);
    REQUIRE(back.head_dim == c->head_dim && back.window == c->window && back.bos == c->bos);
    REQUIRE(back.rope.kind == c->rope.kind && back.rope.theta == c->rope.theta);
    REQUIRE(back.rope.kind == ROPE_PLAIN || back.rope.factor == c->rope.factor);
    REQUIRE(back.qkv_bias == c->qkv_bias && back.o_bias == c->o_bias);
    REQUIRE(back.mlp_bias == c->mlp_bias && back.tied_head == c->tied_head);
    REQUIRE(back.n_eos == c->n_eos && memcmp(back.eos, c->eos, sizeof back.eos) == 0);
    json_decref(json);
}

static void try_gguf(const uint8_t *data, size_t n) {
    struct mil_error err = {0};
    struct checkpoint *c = NULL;
    char path[32];
    int fd = bytes_as_file(data, n, path);
    enum mil_status st = checkpoint_open(path, CHECKPOINT_WEIGHTS, &c, &err);
    check_error(st, &err);
    if (st == MIL_OK) {
        check_limits(&c->config);
        check_round_trip(&c->config);
        checkpoint_free(&c);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct mil_error err = {0};
    struct model_config c;
    json_t *root;
    if (n >= 4 && memcmp(data, "GGUF", 4) == 0) {
        try_gguf(data, n);
        return 0;
    }
    if (json_read_text((const char *)data, n, "input", &root, &err) != MIL_OK) return 0;
    enum mil_status st = model_config_from_json(root, "input", &c, &err);
    check_error(st, &err);
    json_decref(root);
    if (st != MIL_OK) return 0;
    check_limits(&c);
    check_round_trip(&c);
    return 0;
}
