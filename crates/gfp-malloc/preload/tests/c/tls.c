/* Trap "TLS access itself allocates": a library opened late, with much TLS, in many threads. */
#include "check.h"

static int (*touch)(int);

static void *run(void *arg) {
    for (int i = 0; i < 200; i++)
        CHECK(touch((int)(intptr_t)arg + i));
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    pthread_t thread[16];
    pthread_barrier_t wait;
    pthread_barrier_init(&wait, NULL, 2);
    for (int round = 0; round < 20; round++) {
        void *library = dlopen(argv[1], RTLD_NOW);
        CHECK(library);
        *(void **)&touch = dlsym(library, "touch");
        CHECK(touch);
        for (intptr_t i = 0; i < 16; i++)
            CHECK(pthread_create(&thread[i], NULL, run, (void *)i) == 0);
        run((void *)100);
        for (int i = 0; i < 16; i++)
            pthread_join(thread[i], NULL);
        dlclose(library);
    }
    puts("ok");
}
