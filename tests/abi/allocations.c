/* Counts what calls allocate: once warm, a call for fixed extents into the host's memory must not allocate at all.
 * The functions below take the place of the C library's for the whole program, the model's library included. */
#define _GNU_SOURCE
#include "m.h"
#include "host.h"
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

enum { CALLS = 60 };

static atomic_int n_allocations, n_of_environment;

void* malloc(size_t n) {
    ++n_allocations;
    return __libc_malloc(n);
}
void* calloc(size_t n, size_t size) {
    ++n_allocations;
    return __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) {
    ++n_allocations;
    return __libc_realloc(p, n);
}
void* memalign(size_t align, size_t n) {
    ++n_allocations;
    return __libc_memalign(align, n);
}
void* aligned_alloc(size_t align, size_t n) {
    ++n_allocations;
    return __libc_memalign(align, n);
}
int posix_memalign(void** p, size_t align, size_t n) {
    ++n_allocations;
    *p = __libc_memalign(align, n);
    return *p == NULL ? ENOMEM : 0;
}
void* mmap(void* at, size_t n, int protection, int flags, int file, off_t offset) {
    ++n_allocations;
    return (void*)syscall(SYS_mmap, at, n, protection, flags, file, offset);
}

static void* host_alloc(void* user, size_t bytes, size_t align) {
    (void)user;
    ++n_of_environment;
    return __libc_memalign(align, bytes);
}
static void host_free(void* user, void* memory) {
    (void)user;
    free(memory);
}

static void check(int32_t n_threads, int has_environment, int has_state, int has_workspace) {
    aot_env env = {0};
    aot_error err = {0};
    m_model* model = NULL;
    m_state* state = NULL;
    arguments args = prepare(&m_info()->methods[0]);
    env.size = sizeof env;
    env.max_threads = n_threads;
    n_of_environment = 0;
    if (has_environment) env.alloc = host_alloc, env.free = host_free;
    CHECK(m_open(&model, &env, &err) == AOT_OK);
    if (has_state) CHECK(m_state_new(model, &state, &err) == AOT_OK);
    if (has_workspace) {
        args.ws_bytes = m_forward_workspace(model);
        args.ws = __libc_memalign(64, args.ws_bytes + 64);
    }
    for (int i = 0; i < 2 * CALLS; ++i) {
        /* By then threads have started, however busy the machine is. */
        if (i == CALLS) {
            CHECK(has_environment == (n_of_environment > 0));
            n_allocations = n_of_environment = 0;
        }
        int status = m_forward(model, state, args.in, args.n_in, args.out, args.n_out, args.ws, args.ws_bytes, &err);
        if (status != AOT_OK) fprintf(stderr, "%s\n", err.text);
        CHECK(status == AOT_OK);
    }
    int found = n_allocations, found_env = n_of_environment;
    if (found + found_env > 0)
        fprintf(stderr, "%d threads, environment %d, state %d, workspace %d: %d calls allocated %d and %d times\n",
                n_threads, has_environment, has_state, has_workspace, CALLS, found, found_env);
    CHECK(found == 0 && found_env == 0);
    free(args.ws);
    discard(&args);
    m_state_free(state);
    m_close(model);
}

int main(void) {
    void* probe = malloc(1);
    CHECK(n_allocations > 0);
    free(probe);
    for (int32_t n_threads = 1; n_threads <= 2; ++n_threads)
        for (int bits = 0; bits < 8; ++bits) check(n_threads, bits & 1, bits >> 1 & 1, bits >> 2 & 1);
    return 0;
}
