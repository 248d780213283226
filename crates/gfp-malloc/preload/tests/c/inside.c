/* Trap "calls that allocate when made from inside malloc": these all call malloc in the C library,
   some of them with a lock of its own held. */
#include "check.h"

extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;
static int handled, destroyed;

static void on_fork(void) {
    free(malloc(1000));
    handled++;
}

static void destroy(void *p) {
    free(p);
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED);
}

static pthread_key_t key[200];

static void *run(void *arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) /* keys from 32 on: blocks of 32 allocated at the first use */
        CHECK(pthread_setspecific(key[i], malloc(50)) == 0);
    for (int i = 0; i < 10; i++)
        CHECK(__cxa_thread_atexit_impl(destroy, malloc(20), &__dso_handle) == 0);
    return NULL;
}

int main(void) {
    for (int i = 0; i < 200; i++)
        CHECK(pthread_key_create(&key[i], destroy) == 0);
    pthread_t thread[8];
    for (int i = 0; i < 8; i++)
        CHECK(pthread_create(&thread[i], NULL, run, NULL) == 0);
    for (int i = 0; i < 8; i++)
        pthread_join(thread[i], NULL);
    CHECK(destroyed == 8 * 210);
    for (int i = 0; i < 100; i++) {
        char name[40];
        snprintf(name, sizeof name, "there_is_no_%d", i);
        CHECK(dlsym(RTLD_DEFAULT, name) == NULL && dlerror() != NULL);
    }
    /* The list of handlers moves to malloc, under the lock of the list. */
    for (int i = 0; i < 64; i++)
        CHECK(pthread_atfork(on_fork, on_fork, on_fork) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(handled == 128 ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0 && handled == 128);
    puts("ok");
}
