/* SPDX-License-Identifier: Apache-2.0 */
/* sparse.c - header size, header, a file of its full length with holes, bytes at their offsets. */
#include "synth/sparse.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/str.h"
#include "io/json.h"

uint64_t sparse_tensor_bytes(const struct st_decl *d) {
    uint64_t n = dtype_size(d->dtype);
    for (int i = 0; i < d->ndim; i++) n *= (uint64_t)d->shape[i];
    return n;
}

/* The JSON header, padded to a multiple of 8; *data: bytes of all tensors. */
static void make_header(const struct st_decl *decls, size_t n, struct str *out, uint64_t *data) {
    *data = 0;
    str_add(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        uint64_t end = *data + sparse_tensor_bytes(&decls[i]);
        str_addc(out, ',');
        json_append_string(decls[i].name, strlen(decls[i].name), out);
        str_addf(out, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(decls[i].dtype));
        for (int d = 0; d < decls[i].ndim; d++)
            str_addf(out, "%s%lld", d ? "," : "", (long long)decls[i].shape[d]);
        str_addf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*data,
                 (unsigned long long)end);
        *data = end;
    }
    str_addc(out, '}');
    while (!out->failed && out->len % 8) str_addc(out, ' ');
}

static enum mil_status write_at(struct sparse_file *f, uint64_t at, const void *bytes, size_t n,
                                struct mil_error *err) {
    const unsigned char *from = bytes;
    while (n > 0) {
        ssize_t done = pwrite(f->fd, from, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return error_errno(err, done < 0 ? errno : EIO, "%s: cannot write at byte %llu",
                               f->path, (unsigned long long)at);
        from += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return MIL_OK;
}

enum mil_status sparse_create(struct sparse_file *f, const char *path, const struct st_decl *decls,
                              size_t n, struct mil_error *err) {
    struct str header = {0};
    uint64_t data;
    unsigned char size[8];
    make_header(decls, n, &header, &data);
    *f = (struct sparse_file){.fd = -1, .path = path, .data_begin = 8 + header.len};
    for (int i = 0; i < 8; i++) size[i] = (unsigned char)((uint64_t)header.len >> 8 * i);
    enum mil_status st;
    TRY_GOTO(str_status(&header, err));
    f->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->fd < 0 || ftruncate(f->fd, (off_t)(f->data_begin + data)) != 0) {
        st = error_errno(err, errno, "%s: cannot create", path);
        goto fail;
    }
    TRY_GOTO(write_at(f, 0, size, sizeof size, err));
    TRY_GOTO(write_at(f, 8, header.data, header.len, err));
fail:
    str_release(&header);
    if (st != MIL_OK) sparse_close(f, NULL);
    return st;
}

enum mil_status sparse_write(struct sparse_file *f, uint64_t offset, const void *bytes, size_t n,
                             struct mil_error *err) {
    return write_at(f, f->data_begin + offset, bytes, n, err);
}

enum mil_status sparse_close(struct sparse_file *f, struct mil_error *err) {
    bool open_ = f->path && f->fd >= 0;
    const char *path = f->path;
    int failed = open_ && close(f->fd) != 0 ? errno : 0;
    *f = (struct sparse_file){.fd = -1};
    return failed ? error_errno(err, failed, "%s: cannot close", path) : MIL_OK;
}
