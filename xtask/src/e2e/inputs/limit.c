/* Wants more than it may have by each call of the C library, and then by many small blocks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *result(void *p)
{
    return p != NULL ? "a block" : errno == ENOMEM ? "NULL, ENOMEM" : "NULL, another errno";
}

int main(void)
{
    volatile size_t huge = (size_t)1 << 30;
    errno = 0;
    printf("malloc: %s\n", result(malloc(huge)));
    errno = 0;
    printf("calloc: %s\n", result(calloc(huge, 1)));
    char *old = malloc(1000);
    strcpy(old, "old");
    errno = 0;
    printf("realloc: %s, %s kept\n", result(realloc(old, huge)), old);

    void **blocks = NULL;
    size_t count = 0;
    while (count < 8192) { /* 256 MiB: far more than it may have */
        errno = 0;
        void **block = malloc(32768);
        if (block == NULL)
            break;
        memset(block, 0x5a, 32768);
        *block = blocks;
        blocks = (void **)block;
        count++;
    }
    int error = errno;
    while (blocks != NULL) {
        void **next = *blocks;
        free(blocks);
        blocks = next;
    }
    printf("blocks: %s, then %s\n", count < 100 ? "too few" : count < 8192 ? "some" : "too many",
           error == ENOMEM ? "ENOMEM" : "another errno");
    free(old);
    puts(malloc(1 << 20) != NULL ? "goes on" : "does not go on");
    return 0;
}
