/* Trap "thread exit": frees and allocations in key destructors of every round, before and after
   ours; more threads than slots, one after the other and at once. */
#include "check.h"

static pthread_key_t first, last;
static int rounds;

static void again(void *p) {
    char *new = malloc(500);
    memset(new, 3, 500);
    free(p);
    /* Up to PTHREAD_DESTRUCTOR_ITERATIONS. */
    if (__atomic_add_fetch(&rounds, 1, __ATOMIC_RELAXED) % 4)
        pthread_setspecific(first, new);
    else
        free(new);
}

static void *run(void *arg) {
    CHECK(pthread_setspecific(first, malloc(100)) == 0);
    CHECK(pthread_setspecific(last, malloc(100)) == 0);
    free(arg);
    return malloc(300); /* freed by another thread */
}

static pthread_barrier_t all;

static void *crowd(void *arg) {
    void *p = malloc(64);
    pthread_barrier_wait(&all);
    free(p);
    p = calloc(1, 200);
    pthread_barrier_wait(&all);
    free(p);
    return arg;
}

int main(void) {
    CHECK(pthread_key_create(&first, again) == 0);
    pthread_key_t filler;
    for (int i = 0; i < 100; i++)
        CHECK(pthread_key_create(&filler, NULL) == 0);
    CHECK(pthread_key_create(&last, again) == 0);
    for (int round = 0; round < 150; round++) { /* 2400 threads: slots are given back */
        pthread_t thread[16];
        for (int i = 0; i < 16; i++)
            CHECK(pthread_create(&thread[i], NULL, run, malloc(77)) == 0);
        for (int i = 0; i < 16; i++) {
            void *got;
            CHECK(pthread_join(thread[i], &got) == 0 && got);
            free(got);
        }
    }
    /* What 16 threads at a time keep at hand, not what 2400 did. */
    CHECK(mallinfo2().uordblks < 16 << 20);
    enum { CROWD = 1100 }; /* more than there are slots */
    static pthread_t thread[CROWD];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    pthread_barrier_init(&all, NULL, CROWD);
    for (int i = 0; i < CROWD; i++)
        CHECK(pthread_create(&thread[i], &attr, crowd, NULL) == 0);
    for (int i = 0; i < CROWD; i++)
        pthread_join(thread[i], NULL);
    puts("ok");
}
