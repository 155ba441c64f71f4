/* Two models in one program, called by many threads at once while others open and close them: every result has the bits of
 * the first one. Strided arguments, results of the library's and values are used on the way, so that sanitizers see them. */
#define _GNU_SOURCE
#include "a.h"
#include "b.h"
#include "host.h"
#include <pthread.h>

#ifdef HAS_THREAD_SANITIZER
/* The libraries' own locks are not known to the sanitizer. */
const char* __tsan_default_suppressions(void);
const char* __tsan_default_suppressions(void) { return "called_from_lib:liba.so\ncalled_from_lib:libb.so\n"; }
#endif

enum { THREADS = 4, ROUNDS = 12 };

static a_model* shared_a;
static b_model* shared_b;
static arguments expected_a, expected_b;

static void same(const arguments* got, const arguments* expected) {
    for (size_t i = 0; i < got->n_out; ++i)
        CHECK(memcmp(got->out[i].data, expected->out[i].data, got->out[i].size_bytes) == 0);
}

static void call_a(a_model* model, a_state* state, const arguments* expected) {
    aot_error err;
    arguments args = prepare(&a_info()->methods[0]);
    CHECK(a_forward(model, state, args.in, args.n_in, args.out, args.n_out, NULL, 0, &err) == AOT_OK);
    if (expected != NULL) same(&args, expected);
    discard(&args);
}

static void call_b(b_model* model, b_state* state, const arguments* expected) {
    aot_error err;
    arguments args = prepare(&b_info()->methods[0]);
    CHECK(b_forward(model, state, args.in, args.n_in, args.out, args.n_out, NULL, 0, &err) == AOT_OK);
    if (expected != NULL) same(&args, expected);
    discard(&args);
}

/* A model and a state of the thread's own. */
static void open_and_close(void) {
    aot_error err;
    aot_env env = {0};
    a_model* model = NULL;
    a_state *state = NULL, *copy = NULL;
    env.size = sizeof env;
    env.max_threads = 2;
    CHECK(a_open(&model, &env, &err) == AOT_OK);
    CHECK(a_state_new(model, &state, &err) == AOT_OK);
    CHECK(a_state_clone(state, &copy, &err) == AOT_OK);
    call_a(model, state, &expected_a);
    call_a(model, copy, &expected_a);
    CHECK(a_state_reset(state, &err) == AOT_OK);
    call_a(model, state, &expected_a);
    a_state_free(copy);
    a_state_free(state);
    a_close(model);
}

/* Results that the library allocates, values, and wrong arguments. */
static void other_ways(void) {
    aot_error err;
    arguments args = prepare(&b_info()->methods[0]);
    aot_tensor out[MOST];
    aot_value in[MOST], result;
    memset(out, 0, sizeof out);
    memset(in, 0, sizeof in);
    CHECK(b_forward(shared_b, NULL, args.in, args.n_in, out, args.n_out, NULL, 0, &err) == AOT_OK);
    for (size_t i = 0; i < args.n_out; ++i) {
        CHECK(out[i].flags & AOT_TENSOR_OWNED);
        CHECK(memcmp(out[i].data, expected_b.out[i].data, out[i].size_bytes) == 0);
        b_tensor_release(&out[i]);
        b_tensor_release(&out[i]);
    }
    for (size_t i = 0; i < args.n_in; ++i) in[i].tag = AOT_VALUE_TENSOR, in[i].as.tensor = &args.in[i];
    CHECK(b_call(shared_b, NULL, "forward", in, args.n_in, &result, &err) == AOT_OK);
    b_value_release(&result);
    b_value_release(&result);
    CHECK(b_call(shared_b, NULL, "no such method", in, args.n_in, &result, &err) == AOT_E_ARGUMENT);
    args.in[0].dtype = AOT_BOOL;
    CHECK(b_forward(shared_b, NULL, args.in, args.n_in, out, args.n_out, NULL, 0, &err) == AOT_E_DTYPE);
    CHECK(strstr(err.text, "argument") != NULL && err.code == AOT_E_DTYPE);
    args.in[0].dtype = AOT_F32;
    void* data = args.in[0].data;
    args.in[0].data = NULL;
    CHECK(b_forward(shared_b, NULL, args.in, args.n_in, out, args.n_out, NULL, 0, &err) == AOT_E_ARGUMENT);
    args.in[0].data = (char*)data + 1;
    CHECK(b_forward(shared_b, NULL, args.in, args.n_in, out, args.n_out, NULL, 0, NULL) == AOT_E_ALIGNMENT);
    args.in[0].data = data;
    discard(&args);
}

static void* work(void* arg) {
    size_t number = (size_t)arg;
    for (int round = 0; round < ROUNDS; ++round) {
        call_a(shared_a, NULL, &expected_a);
        call_b(shared_b, NULL, &expected_b);
        if (number % 2 == 0) open_and_close();
        if (number % 2 == 1) other_ways();
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    aot_error err;
    aot_env env = {0};
    env.size = sizeof env;
    env.max_threads = 2;
    CHECK(a_open(&shared_a, &env, &err) == AOT_OK && b_open(&shared_b, NULL, &err) == AOT_OK);
    expected_a = prepare(&a_info()->methods[0]);
    expected_b = prepare(&b_info()->methods[0]);
    CHECK(a_forward(shared_a, NULL, expected_a.in, expected_a.n_in, expected_a.out, expected_a.n_out, NULL, 0, &err) == AOT_OK);
    CHECK(b_forward(shared_b, NULL, expected_b.in, expected_b.n_in, expected_b.out, expected_b.n_out, NULL, 0, &err) == AOT_OK);
    for (size_t i = 0; i < THREADS; ++i) CHECK(pthread_create(&threads[i], NULL, work, (void*)i) == 0);
    for (size_t i = 0; i < THREADS; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    discard(&expected_a);
    discard(&expected_b);
    a_close(shared_a);
    b_close(shared_b);
    return 0;
}
