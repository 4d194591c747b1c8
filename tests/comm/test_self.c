/* SPDX-License-Identifier: Apache-2.0 */
/* test_self.c - the collectives of one process change nothing; absent ones say what is missing. */
#include "check.h"

#include "comm/comm.h"

static void one_rank(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct backend *b = NULL;
    struct comm *c = NULL;
    assert_ok(backend_open("cpu", DT_F32, &b, &err));
    assert_ok(comm_open("self", b, &c, &err));
    assert_string_equal(comm_name(c), "self");
    assert_int_equal(comm_rank(c), 0);
    assert_int_equal(comm_ranks(c), 1);
    float x[3] = {1, 2, 3};
    double y[2] = {4, 5};
    comm_all_reduce_sum(c, backend_stream(b), tensor_of(x, DT_F32, 1, 3));
    assert_ok(comm_all_reduce_sum_f64(c, y, 2, &err));
    assert_ok(comm_broadcast(c, y, sizeof y, 0, &err));
    assert_ok(comm_barrier(c, &err));
    assert_ok(stream_sync(backend_stream(b), &err));
    assert_true(x[0] == 1 && x[1] == 2 && x[2] == 3 && y[0] == 4 && y[1] == 5);
    comm_free(&c);
    comm_free(&c);
    assert_null(c);
    backend_free(&b);
}

static void absent(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct comm *c = NULL;
    assert_fails(comm_open("mpi", NULL, &c, &err), MIL_UNSUPPORTED, "MPI");
    assert_fails(comm_open("nccl", NULL, &c, &err), MIL_UNSUPPORTED, "NCCL");
    assert_fails(comm_open("pigeon", NULL, &c, &err), MIL_UNSUPPORTED, "'pigeon'");
    assert_null(c);
    mem_fail_after(0);
    enum mil_status st = comm_open("self", NULL, &c, &err);
    mem_fail_after(-1);
    assert_int_equal(st, MIL_NOMEM);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_rank), cmocka_unit_test(absent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
