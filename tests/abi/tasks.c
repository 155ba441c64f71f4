/* A model that forks, called by many threads at once, with one thread for its tasks and with several: every result has the
 * bits of the first one. */
#include "t.h"
#include "host.h"
#include <pthread.h>

#ifdef HAS_THREAD_SANITIZER
/* The library's own locks are not known to the sanitizer. */
const char* __tsan_default_suppressions(void);
const char* __tsan_default_suppressions(void) { return "called_from_lib:libt.so\n"; }
#endif

enum { THREADS = 4, ROUNDS = 200 };

static t_model* model;
static arguments expected;

static void* call(void* unused) {
    aot_error err;
    for (int round = 0; round < ROUNDS; ++round) {
        arguments args = prepare(&t_info()->methods[0]);
        CHECK(t_forward(model, NULL, args.in, args.n_in, args.out, args.n_out, NULL, 0, &err) == AOT_OK);
        for (size_t i = 0; i < args.n_out; ++i)
            CHECK(memcmp(args.out[i].data, expected.out[i].data, args.out[i].size_bytes) == 0);
        discard(&args);
    }
    return unused;
}

int main(void) {
    for (int n_threads = 1; n_threads < 5; n_threads += 2) {
        aot_error err;
        aot_env env = {0};
        pthread_t threads[THREADS];
        env.size = sizeof env;
        env.max_threads = n_threads;
        CHECK(t_open(&model, &env, &err) == AOT_OK);
        if (n_threads == 1) {
            expected = prepare(&t_info()->methods[0]);
            CHECK(t_forward(model, NULL, expected.in, expected.n_in, expected.out, expected.n_out, NULL, 0, &err) == AOT_OK);
        }
        for (int i = 0; i < THREADS; ++i) CHECK(pthread_create(&threads[i], NULL, call, NULL) == 0);
        for (int i = 0; i < THREADS; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
        t_close(model);
    }
    discard(&expected);
    return 0;
}
